"""What a run was, and what came out of it, in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlkit.backbones.sides import told
from tlkit.data.wording import number
from tlkit.progress import LABEL_WIDTH
from tlkit.runfolder.state import State
from tlkit.spec.run import RunSpec


def summary(
    folder: Path,
    spec: RunSpec,
    plan: dict[str, Any],
    outputs: int,
    metrics: dict[str, Any] | None,
    headline: str,
) -> str:
    """Return the lines of `Run.summary`.

    Args:
        plan, metrics: contents of the run's files; None: it is unfinished.
        headline: of the test part; "" where there is none.
    """
    lines = [
        ("run", f"{folder}{'' if metrics else ', unfinished'}"),
        ("data", str(spec.data)),
        ("model", f"{spec.backbone.name}, {told(spec.size)} px, {number(outputs, 'output')}"),
        ("plan", f"{plan['regime']} ({plan['reason']})"),
    ]
    if metrics:
        counts = ", ".join(f"{count:,} {part}" for part, count in metrics["examples"].items())
        lines.insert(2, ("", counts))
        for phase in metrics["phases"]:
            best = f"best validation figure {phase['best_val']:.3f}"
            lines.append((phase["name"], f"{best}; {phase['seconds']:.0f} s"))
        values = ", ".join(f"{name} {value:.3f}" for name, value in metrics["val"].items())
        lines.append(("val", values))
    if headline:
        lines.append(("test", headline))
    return "\n".join(f"{label:<{LABEL_WIDTH}}{text}" for label, text in lines)


def so_far(folder: Path, state: State) -> str:
    """Return what a person must know of the model of an unfinished run."""
    metric, value = list(state.best.items())[-1]
    done = [result["name"] for result in state.finished]
    done += [f"{number(state.epoch, 'epoch')} of the next phase"] if state.epoch else []
    return (
        f"{folder} is unfinished: its best model so far, validation {metric} {value:.3f}, after "
        f"{' and '.join(done) or 'no training'}; go on with: tlkit train --resume {folder}"
    )
