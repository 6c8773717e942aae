"""What the files of a run folder have to hold, and what can be done where one does not."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tlkit.compute.engines import ENGINES
from tlkit.planning.freezing import BATCHNORM

Object = dict[str, Any]
_Row = Annotated[list[Any], Field(min_length=3, max_length=3)]
_Numbers = Annotated[list[float], Field(min_length=2, max_length=2)]


class _Open(BaseModel):
    """What is asked of a file; more may be in it, as versions differ."""

    model_config = ConfigDict(extra="allow")


class _Task(_Open):
    task: str
    outputs: Annotated[list[str], Field(min_length=1)]
    thresholds: list[float] = []


class _Calibration(_Open):
    temperature: Annotated[float, Field(gt=0)]
    reason: str
    images: Annotated[int, Field(ge=0)]
    nll: dict[str, float]
    truths: dict[str, list[Annotated[float, Field(ge=0, le=1)]]]


class _Splits(_Open):
    train: list[str]
    val: list[str]
    test: list[str]


class _Scan(_Open):
    splits: _Splits


class _Solved(_Open):
    method: Literal["solve"]
    name: str
    freeze: str
    cut: str | None = None
    batchnorm: Literal[*BATCHNORM]
    augment: bool
    keeps_features: bool = True
    views: Annotated[int, Field(ge=1)] = 1
    reasons: list[str]


class _Fitted(_Solved):
    method: Literal["fit"]
    epochs: Annotated[int, Field(ge=1)]
    optimizer: Literal["sgd", "adam"]
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["cosine", "plateau", "constant"]


class _Estimate(_Open):
    seconds: _Numbers
    phases: list[Object] = []


_Phase = Annotated[_Solved | _Fitted, Field(discriminator="method")]


class _Plan(_Open):
    regime: Literal["small", "medium", "large"]
    reason: str
    examples: Annotated[int, Field(ge=1)]
    classes: int
    phases: Annotated[list[_Phase], Field(min_length=1)]
    estimate: _Estimate | None = None


class _Record(_Open):
    run: str
    start: dict[str, str]
    files: dict[str, str]
    spec: Object


class _Engine(_Open):
    name: Literal[*ENGINES]


class _Environment(_Open):
    weights: str = ""


class _Metrics(_Open):
    phases: list[Object]
    val: Object
    test: Object | None
    seconds: Object


CONTENTS: dict[str, TypeAdapter] = {
    "labels.json": TypeAdapter(Annotated[list[str], Field(min_length=1)]),
    "task.json": TypeAdapter(_Task),
    "calibration.json": TypeAdapter(_Calibration),
    "scan.json": TypeAdapter(_Scan),
    "plan.json": TypeAdapter(_Plan),
    "env.json": TypeAdapter(_Environment),
    "engine.json": TypeAdapter(_Engine),
    "batches.json": TypeAdapter(list[Object]),
    "data.json": TypeAdapter(dict[str, list[_Row]]),
    "digests.json": TypeAdapter(_Record),
    "metrics.json": TypeAdapter(_Metrics),
}
"""What each JSON file of a run has to hold, as far as anything is read of it."""

_REPAIR = "Its place may take a copy from a run on the same data"
REMEDIES = {
    "labels.json": f"{_REPAIR} (the names of the outputs, in order)",
    "task.json": f"{_REPAIR} with the same task",
    "calibration.json": "Remove metrics.json, and the run is measured anew: tlkit train --resume "
    "{run}; or take the answers as they are with --raw",
    "scan.json": "What needs no split of the run's own still works: tlkit predict, and tlkit "
    "evaluate {run} DATA; to go on with training, train anew",
    "plan.json": "tlkit predict, evaluate and export work without; to go on with training, train "
    "anew",
    "env.json": "What the run began with cannot be told without: put it back, or train anew",
    "engine.json": "It only tells what computed the frozen part. Remove it, and a run that goes on "
    "chooses anew",
    "batches.json": "It only tells of batches that were made smaller. Remove it to go on without",
    "data.json": "Which images the run was trained on cannot be told without: train anew",
    "digests.json": "Whose the files of the run are cannot be told without: put it back, or train "
    "anew",
    "metrics.json": "Remove it, and the run is measured anew: tlkit train --resume {run}",
    "spec.yaml": f"{_REPAIR} and backbone",
    "predictions.csv": "Remove metrics.json, and the run is measured anew: tlkit train --resume "
    "{run}",
    "log.csv": "Remove it to go on without its rows: tlkit train --resume {run}",
    "checkpoints/state.npz": "The best model so far serves tlkit predict, evaluate and export if "
    "it is there ({run}/checkpoints/best.keras). Remove the file to begin training anew in this "
    "folder: tlkit train --resume {run}",
}
"""What can still be done where a file of a run is damaged."""
