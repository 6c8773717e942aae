"""Measures maps of classes batch by batch; some counts an image are held, and the worst maps."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from tlkit.data.csv_cells import csv_cell
from tlkit.data.mask_colours import blended, palette
from tlkit.data.pictures.decode import resize
from tlkit.data.pictures.placement import STRETCH
from tlkit.lettering import lettering, missing_note
from tlkit.tasks.drawing import save_figure
from tlkit.tasks.evaluator import Evaluator
from tlkit.tasks.mask_metrics import boundary_f, confusion_of, overlap_metrics

WORST = 8
"""Images that are drawn: those with the lowest mean IoU."""

DRAWN = 1024
"""Pixels of the longer side of what is drawn, at most: every other one of a larger map is left out,
and so on."""

DRAWING = "worst.png"


@dataclass(order=True)
class _Seen:
    """An image that may be drawn; a heap of such has the best of the worst first."""

    badness: float
    number: int
    id: str = field(compare=False)
    truth: np.ndarray = field(compare=False)
    given: np.ndarray = field(compare=False)
    fit: str = field(compare=False)


@dataclass
class Overlaps(Evaluator):
    """Compares class numbers (n, height, width) with probabilities (n, height, width, classes); or,
    of images of their own size, with maps uint8 (n, height, width).

    Attributes:
        fit: how images are brought to the network's size, see `placement`.
    """

    names: tuple[str, ...]
    fit: str = STRETCH
    ids: list[str] = field(default_factory=list)
    both: list[np.ndarray] = field(default_factory=list)
    either: list[np.ndarray] = field(default_factory=list)
    met: list[float] = field(default_factory=list)
    worst: list[_Seen] = field(default_factory=list)
    confusion: Any = 0

    def update(
        self, ids: Sequence[str], labels: Sequence[Any], targets: np.ndarray, outputs: np.ndarray
    ) -> None:
        whole = outputs.ndim == 3
        given = outputs if whole else outputs.argmax(axis=-1).astype(np.uint8)
        for id_, truth, answer in zip(ids, targets, given, strict=True):
            own = confusion_of(truth, answer, len(self.names))
            both = np.diag(own)
            self.confusion = self.confusion + own
            self.ids.append(id_)
            self.both.append(both)
            self.either.append(own.sum(axis=0) + own.sum(axis=1) - both)
            if (met := boundary_f(truth, answer)) is not None:
                self.met.append(met)
            every = -(-max(truth.shape) // DRAWN)
            kept = truth[::every, ::every], answer[::every, ::every]
            fit = STRETCH if whole else self.fit
            seen = _Seen(-_mean(both, self.either[-1]), -len(self.ids), id_, *kept, fit)
            if len(self.worst) < WORST:
                heapq.heappush(self.worst, seen)
            else:
                heapq.heappushpop(self.worst, seen)

    def result(self) -> dict[str, Any]:
        counts = np.array(self.both), np.array(self.either)
        return overlap_metrics(self.confusion, *counts, self.names, self.met)

    def rows(self) -> list[list[str]]:
        rows = [["id", "mean_iou", *(csv_cell(f"iou_{name}") for name in self.names)]]
        for id_, both, either in zip(self.ids, self.both, self.either, strict=True):
            cells = [f"{b / e:.6f}" if e else "" for b, e in zip(both, either, strict=True)]
            mean = f"{_mean(both, either):.6f}" if either.any() else ""
            rows.append([csv_cell(id_), mean, *cells])
        return rows

    def _image(self, seen: _Seen) -> np.ndarray:
        """Return the image of a map, of its size; grey where it cannot be read any more."""
        upright = self.original(seen.id)
        if upright is None:
            return np.full((*seen.truth.shape, 3), 128, np.uint8)
        if seen.fit == STRETCH:
            return np.asarray(Image.fromarray(upright).resize(seen.truth.shape[::-1]))
        between = resize(upright, seen.truth.shape, seen.fit).numpy()
        return np.clip(between, 0, 255).astype(np.uint8)

    def draw(self, folder: Path) -> str:
        worst = sorted(self.worst, reverse=True)
        with lettering([*self.names, *(seen.id for seen in worst)]) as shown:
            figure = Figure(figsize=(7.5, 2.6 * len(worst) + 0.5), layout="constrained")
            axes = figure.subplots(len(worst), 3, squeeze=False)
            for row, seen in zip(axes, worst, strict=True):
                image = self._image(seen)
                views = (image, blended(image, seen.truth), blended(image, seen.given))
                titles = (shown(seen.id)[-28:], "truth", f"answer, mean IoU {-seen.badness:.3f}")
                for axis, view, title in zip(row, views, titles, strict=True):
                    axis.imshow(view)
                    axis.set_title(title, fontsize=8)
                    axis.set_axis_off()
            figure.legend(handles=_keys(self.names, shown), loc="outside lower center", ncols=4)
            save_figure(figure, folder / DRAWING, dpi=90)
        return missing_note(self.names, DRAWING)


def _keys(names: Sequence[str], shown: Callable[[str], str]) -> list[Patch]:
    """Return what the colours mean; the first class has none."""
    colours = palette() / 255
    keys = [Patch(color=colours[i], label=shown(n)) for i, n in enumerate(names[:16]) if i]
    return [*keys, Patch(facecolor="white", edgecolor="black", label="void")]


def _mean(both: np.ndarray, either: np.ndarray) -> float:
    """Return the mean IoU over the classes of an image; 1 where all of it is void."""
    there = either > 0
    return float((both[there] / either[there]).mean()) if there.any() else 1.0


def overlap_headline(metrics: dict[str, Any]) -> str:
    """Return what a person wants to know first of `overlap_metrics`, in a line."""
    found = metrics["mean_iou"]
    text = "no mean IoU" if found is None else f"mean IoU {found:.3f}"
    if metrics["mean_iou_interval"]:
        low, high = metrics["mean_iou_interval"]
        text += f" of {metrics['examples']:,} (95% interval {low:.3f}-{high:.3f})"
    rows = [(n, own["iou"]) for n, own in metrics["per_class"].items() if own["iou"] is not None]
    each = ", ".join(f"{name} {iou:.3f}" for name, iou in rows[:4])
    more = ", ..." if len(rows) > 4 else ""
    return f"{text}; {each}{more}; pixel accuracy {metrics['pixel_accuracy']:.3f}"
