"""The plan of a run: which phases, what each trains and how; its form in `plan.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlkit.backbones.catalog import LayerInfo
from tlkit.planning import rules
from tlkit.planning.freezing import FreezePlan, plan_freeze

HEAD, FINETUNE, SCRATCH = "head", "finetune", "scratch"


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        name: `head` (backbone frozen), `finetune`, or `scratch` (no pretrained weights).
        method: `solve` (multinomial logistic regression) or `fit` (gradient steps).
        freeze: the backbone's layers in this phase.
        augment: whether training images are changed at random; then no feature can be kept.
        keeps_features: whether it trains on features that are computed once and kept; those of a
            fitted phase are computed in each epoch all the same where the cache has no room for
            them (`FeatureStore.cuts`).
        reasons: a sentence for each choice.
        epochs, optimizer, learning_rate, schedule: of a fitted phase.
        views: of each training image, whose features are kept.
    """

    name: str
    method: str
    freeze: FreezePlan
    augment: bool
    keeps_features: bool
    reasons: tuple[str, ...] = ()
    epochs: int = 0
    optimizer: str = ""
    learning_rate: float = 0.0
    schedule: str = ""
    views: int = 1

    def describe(self) -> str:
        """Return what the phase does, in a line."""
        if self.freeze.all_frozen:
            what = "the head on frozen features"
        elif self.freeze.cut is None:
            what = "the head and the whole backbone" if not self.freeze.frozen else self.freeze.rule
        else:
            what = f"the head and all after {self.freeze.cut}"
        if self.views > 1:
            what += f", {self.views - 1} augmented copies of each image"
        if self.method == "solve":
            return f"{what}, solved"
        return (
            f"{what}, {self.optimizer} at {self.learning_rate:g} ({self.schedule}), "
            f"at most {self.epochs} epochs"
        )


@dataclass(frozen=True)
class TrainPlan:
    """What a run will do, and why; `estimate`: what it will take (`tlkit.commands.estimate`)."""

    regime: rules.Choice
    examples: int
    classes: int
    phases: tuple[Phase, ...]
    estimate: dict[str, Any] | None = None

    @property
    def views(self) -> int:
        """Views of each training image, of which the phases that have a use for them take all."""
        return max(phase.views for phase in self.phases)

    @classmethod
    def from_json(cls, value: dict[str, Any], layers: Sequence[LayerInfo]) -> TrainPlan:
        """Return the plan of which `to_json` made `value`, with nothing decided anew.

        Keys that the version before did not write get what its rule said.

        Args:
            value: of the types that `tlkit.runfolder.contents` asks for.
            layers: the backbone's layers in graph order.

        Raises:
            FreezeError: a phase's freeze rule cannot be read, or matches nothing of this backbone.
            ValueError: a phase contradicts itself, or the backbone.
        """
        return cls(
            rules.Choice(value["regime"], value["reason"]),
            value["examples"],
            value["classes"],
            tuple(_phase_of(row, layers) for row in value["phases"]),
            value.get("estimate"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return `plan.json`."""
        return {
            "regime": self.regime.value,
            "reason": self.regime.reason,
            "examples": self.examples,
            "classes": self.classes,
            "phases": [_phase_json(phase) for phase in self.phases],
            **({"estimate": self.estimate} if self.estimate else {}),
        }


FITTED = ("epochs", "optimizer", "learning_rate", "schedule")
"""What is written of a fitted phase alone."""


def _phase_json(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "method": phase.method,
        "freeze": phase.freeze.rule,
        "cut": phase.freeze.cut,
        "batchnorm": phase.freeze.batchnorm,
        "augment": phase.augment,
        "keeps_features": phase.keeps_features,
        "views": phase.views,
        **({name: getattr(phase, name) for name in FITTED} if phase.method == "fit" else {}),
        "reasons": list(phase.reasons),
        "blocks": [
            {
                "block": row.block,
                "layers": row.layers,
                "parameters": row.parameters,
                "state": row.state,
            }
            for row in phase.freeze.table()
        ],
    }


def _phase_of(row: dict[str, Any], layers: Sequence[LayerInfo]) -> Phase:
    """Return the phase that `_phase_json` wrote."""
    name, method, augment = row["name"], row["method"], row["augment"]
    freeze = plan_freeze(layers, row["freeze"], row["batchnorm"])
    if row.get("cut", freeze.cut) != freeze.cut:
        raise ValueError(f"{name}: cut {row['cut']}, this backbone gives {freeze.cut}")
    allowed = keeps_features(freeze, augment)
    kept = row.get("keeps_features", allowed)
    if kept and not allowed:
        raise ValueError(f"{name}: keeps_features, but there are none that stay the same")
    if method == "solve" and not (kept and freeze.all_frozen):
        raise ValueError(f"{name}: method solve, but not on kept features of a frozen backbone")
    fitted = {key: row[key] for key in FITTED} if method == "fit" else {}
    views, reasons = row.get("views", 1), tuple(row["reasons"])
    return Phase(name, method, freeze, augment, kept, reasons, views=views, **fitted)


def keeps_features(freeze: FreezePlan, augment: bool) -> bool:
    """Tell whether features of a phase can be kept: what is frozen first always sees the same.

    Args:
        augment: whether the phase's images are changed anew in each epoch.
    """
    return not augment and (freeze.all_frozen or freeze.cut is not None)
