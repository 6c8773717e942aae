"""The course of a training, phase by phase: what was frozen, loss, metric and learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlkit.reporting.svg import Axis, Line, plot


def phase_curves(
    log: Sequence[Mapping[str, str]], plan: Mapping[str, Any], metrics: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return for each phase that was run what the plan says of it, what came out, and drawings.

    Args:
        log: rows of `log.csv`.
        plan, metrics: the run's files.
    """
    found = []
    for planned, result in zip(plan["phases"], metrics["phases"], strict=False):
        rows = [row for row in log if row["phase"] == planned["name"]]
        found.append(
            {
                "name": planned["name"],
                "what": _described(planned),
                "reasons": planned["reasons"],
                "blocks": planned.get("blocks", []),
                "facts": _facts(result),
                "drawings": _drawings(planned["name"], rows) if rows else [],
            }
        )
    return found


RESULTS = {
    "best_val": "best on validation {:.3f}",
    "gain": "gain {:+.3f}",
    "trainable_parameters": "{:,} parameters trained",
    "seconds": "{:.1f} s",
    "images_per_second": "{:.0f} images/s",
    "batch_size": "batches of {}",
    "device": "on {}",
    "precision": "{}",
}
"""How what came out of a phase is told, where there is any."""


def _facts(result: Mapping[str, Any]) -> str:
    given = {key: result.get(key) for key in RESULTS}
    told = [RESULTS[key].format(x) for key, x in given.items() if x is not None and x != ""]
    return "; ".join([*told, *(["on kept features"] if result.get("features_kept") else [])])


def _described(phase: Mapping[str, Any]) -> str:
    text = f"{_frozen(phase)}; BatchNorm {phase['batchnorm']}"
    if phase["method"] == "solve":
        return f"the head is solved; {text}"
    return (
        f"fitted, {phase['optimizer']} at {phase['learning_rate']:g} ({phase['schedule']}), at "
        f"most {phase['epochs']} epochs; {text}"
    )


def _frozen(phase: Mapping[str, Any]) -> str:
    """Return what of the backbone is frozen: all, nothing, up to a block, or by a rule."""
    simple = {"all": "the whole backbone frozen", "none": "nothing frozen"}
    if phase["freeze"] in simple:
        return simple[phase["freeze"]]
    return f"frozen up to {phase['cut']}" if phase.get("cut") else f"frozen: {phase['freeze']}"


def _drawings(phase: str, rows: Sequence[Mapping[str, str]]) -> list[Any]:
    """Return loss, metric and, where there is one, learning rate of a phase."""
    solved = bool(rows[0].get("l2"))
    at = [float(row["l2" if solved else "epoch"]) for row in rows]
    x = Axis("L2 strength", log=True, falling=True) if solved else Axis("epoch")
    drawings = []
    for name in (name for name in rows[0] if f"val_{name}" in rows[0]):
        lines = [
            Line(called, at, [float(row[key]) for row in rows])
            for called, key in (("training", name), ("validation", f"val_{name}"))
            if rows[0][key]  # of a metric of whole parts training has none
        ]
        ends = f"{lines[-1].ys[0]:.3f} to {lines[-1].ys[-1]:.3f}"
        label = f"Phase {phase}: {name} over {x.name}; validation from {ends}"
        drawings.append(plot(lines, x, Axis(name), label))
    if not solved and all(row["learning_rate"] for row in rows):
        rates = [float(row["learning_rate"]) for row in rows]
        label = f"Phase {phase}: learning rate from {rates[0]:g} to {rates[-1]:g}"
        drawings.append(plot([Line("rate", at, rates)], x, Axis("learning rate"), label))
    return drawings
