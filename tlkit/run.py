"""The conductor: data, plan, training, evaluation, run folder; the Python twin of the commands."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tlkit.backbones.build import Built, build_backbone
from tlkit.data.decode import why_undecodable
from tlkit.data.pipeline import batches
from tlkit.data.scan import Scan, scan
from tlkit.data.sources import Example, Source, open_labelled, open_source, picture_files, printable
from tlkit.data.split import Split, split
from tlkit.environment import describe_environment, precision, set_environment
from tlkit.errors import DataError, ExportError, Interrupted, RunFolderError
from tlkit.evaluate.evaluator import probabilities
from tlkit.evaluate.metrics import classification_metrics
from tlkit.evaluate.report import draw_confusion, draw_curves, predictions_csv
from tlkit.heads.classification import attach
from tlkit.progress import Progress
from tlkit.spec import ARRAYS, RunSpec, make_spec
from tlkit.training.cache import features_folder
from tlkit.training.phases import HEAD, TrainPlan, make_plan
from tlkit.training.prefix import Examples
from tlkit.training.runfolder import RunFolder, check_free, next_folder
from tlkit.training.trainer import PhaseResult, Trainer

EXPORT_FORMATS = ("savedmodel",)
CLASSES_SHOWN = 5


@dataclass(frozen=True)
class Prepared:
    """A run before its first phase: nothing has been written."""

    spec: RunSpec
    source: Source
    scan: Scan
    split: Split
    seconds: float

    def examples(self, part: str) -> Examples:
        """Return one part as training sees it."""
        group = getattr(self.split, part)
        labels, spec = self.source.labels, self.spec
        pipeline = functools.partial(
            batches, labels=labels, size=spec.size, batch_size=spec.batch_size
        )
        return Examples(
            [self.scan.digests[e.id] for e in group],
            np.array([labels.index(e.label) for e in group], np.int32),
            lambda chosen: pipeline([group[i] for i in chosen]),
            lambda augment: pipeline(group, shuffle_seed=spec.seed, augment=augment),
        )

    def scan_json(self) -> dict[str, Any]:
        """Return `scan.json`."""
        return {
            "source": self.spec.data,
            "classes": {
                part: dict(Counter(e.label for e in getattr(self.split, part)))
                for part in ("train", "val", "test")
            },
            "left_out": [
                {"id": id_, "reason": reason}
                for id_, reason in sorted({**self.scan.left_out, **self.split.left_out}.items())
            ],
            "duplicates": self.scan.duplicates(),
            "splits": self.split.ids(),
        }


def train(
    data: Any = None,
    *,
    val: Any = None,
    test: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool | Progress = True,
    **fields: Any,
) -> Run:
    """Train on `data` and return the run.

    Args:
        data: a folder of class folders, one with train / validation / test folders,
            `example:elpv`, an `(images, labels)` pair (RGB or grey, 0-255, any size) or a
            `tf.data.Dataset` of such pairs.
        val, test: a share to split off (default 0.15 each), or data of their own.
        callbacks: Keras callbacks, passed to each fitted phase.
        progress: False for silence.
        **fields: any field of `RunSpec`, such as `backbone="ResNet50"`, `regime="medium"`.

    Raises:
        TlkitError: bad input; one of its children, with one clear message.

    Example:
        run = tlkit.train("flowers/", backbone="MobileNetV2")
        run.metrics["test"]["accuracy"]
    """
    spec, arrays = _spec_of(data, val, test, fields)
    shown = _progress(progress)
    set_environment(spec)
    prepared = _prepare(spec, arrays, shown)
    built, model = _build(prepared)
    plan = _make_plan(prepared, built, bool(callbacks))
    folder = RunFolder(spec.out or next_folder(prepared.source.name, spec.backbone.name))
    _say_plan(plan, shown)
    return _execute(prepared, plan, model, folder, callbacks, shown)


def plan(
    data: Any, *, val: Any = None, test: Any = None, progress: bool | Progress = True, **fields: Any
) -> TrainPlan:
    """Return what `train` with the same arguments would do; nothing is trained or written."""
    spec, arrays = _spec_of(data, val, test, fields)
    prepared = _prepare(spec, arrays, _progress(progress))
    # Names and sizes of layers do not depend on the weights: none are loaded or downloaded.
    built = build_backbone(spec.backbone.name, spec.size, "none", spec.backbone.alpha)
    return _make_plan(prepared, built, False)


def resume(folder: str | Path, progress: bool | Progress = True) -> Run:
    """Go on with a run that was stopped, at the phase in which it was; a finished one is returned.

    Finished phases are kept; the interrupted one starts again from the best weights so far.

    Raises:
        RunFolderError: there is no run, or it was trained on arrays, which are gone.
    """
    run, shown = open_run(folder), _progress(progress)
    if run.finished:
        shown.say("run", f"{run.folder} is finished; nothing to do")
        return run
    if ARRAYS in (run.spec.data, run.spec.val, run.spec.test):
        raise RunFolderError(f"run {folder}: was trained on arrays, which are gone; train anew")
    set_environment(run.spec)
    prepared = _prepare(run.spec, {}, shown, free=False)
    built, model = _build(prepared)
    # Callbacks are gone; a last phase that was fitted for their sake is still fitted.
    fitted = run.plan["phases"][-1]["method"] == "fit"
    plan = _make_plan(prepared, built, fitted)
    return _execute(prepared, plan, model, run.files, (), shown, True)


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        RunFolderError: it does not exist or is none.
    """
    files = RunFolder(folder)
    return Run(files, files.read_spec())


class Run:
    """A run folder, opened.

    Attributes:
        folder: its path.
        spec: the whole `RunSpec`.
        finished: whether training came to its end.
    """

    def __init__(self, files: RunFolder, spec: RunSpec):
        self.files, self.spec, self.folder = files, spec, files.path

    def __repr__(self) -> str:
        return f"tlkit.Run({str(self.folder)!r})"

    @property
    def finished(self) -> bool:
        return (self.folder / "metrics.json").is_file()

    @functools.cached_property
    def model(self) -> keras.Model:
        """The delivered model: RGB 0-255 (n, size, size, 3) in, probabilities (n, classes) out."""
        return self.files.load_model()

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the order of the probabilities."""
        return tuple(self.files.read_json("labels.json"))

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        return self.files.read_json("metrics.json")

    @property
    def plan(self) -> dict[str, Any]:
        """The content of `plan.json`."""
        return self.files.read_json("plan.json")

    def evaluate(self, data: Any = None, *, progress: bool | Progress = True) -> dict[str, Any]:
        """Return accuracy, interval, top-k, loss, per-class metrics and confusion matrix.

        Args:
            data: anything that `train` takes; None: the run's own test part.

        Raises:
            DataError: nothing to evaluate on, or classes that the run does not know.
        """
        shown = _progress(progress)
        examples = self._own_test() if data is None else open_labelled(data, self.labels)
        found = scan(examples, shown)
        usable = [e for e in examples if e.id in found.digests]
        if not usable:
            raise DataError(f"evaluation data: no usable pictures. Received: {len(examples)} files")
        p = probabilities(self.model, self._batches(usable), len(usable), shown, "evaluate")
        truth = np.array([self.labels.index(e.label) for e in usable])
        metrics = classification_metrics(truth, p, self.labels)
        left_out = [{"id": id_, "reason": why} for id_, why in sorted(found.left_out.items())]
        return {**metrics, "left_out": left_out}

    def predict(self, items: Any, *, progress: bool | Progress = False) -> list[dict[str, Any]]:
        """Predict pictures, in the order given; a bad one never stops the others.

        Args:
            items: files and folders, or arrays (height, width, 3), 0-255, or one of these.

        Returns:
            For each picture `{"path", "label", "score", "probabilities": {label: p}, "error"}`;
            `error` says why the others are None.
        """
        return predict_with(self._probabilities, self.labels, items, _progress(progress))

    def export(
        self,
        out: str | Path | None = None,
        format: str = "savedmodel",
        *,
        progress: bool | Progress = True,
    ) -> Path:
        """Export the model and check that it answers as the run does.

        Args:
            out: a new folder; None: `export/savedmodel` in the run folder.
            format: `savedmodel`.

        Raises:
            ExportError: `out` exists, or the format is unknown.
            ParityError: the export answers otherwise; it has been removed.
        """
        from tlkit.export.parity import PICTURES, check_parity
        from tlkit.export.savedmodel import SavedModel, write_savedmodel

        if format not in EXPORT_FORMATS:
            raise ExportError(
                f"format: unknown. Allowed: {', '.join(EXPORT_FORMATS)}. Received: {format!r}"
            )
        out = Path(out) if out is not None else self.folder / "export" / format
        _check_export_target(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
        shown = _progress(progress)
        try:
            shown.say("export", f"{out}: writing")
            write_savedmodel(self.model, self.labels, draft)
            encoded = self._parity_pictures(PICTURES)
            # The run's side of the comparison: the pipeline and the Keras model.
            expected = self._probabilities(encoded)
            difference = check_parity(SavedModel(draft), encoded, expected)
            draft.chmod(0o755)
            if out.is_dir():
                out.rmdir()  # empty, as checked
            draft.rename(out)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        shown.say(
            "parity",
            f"{len(encoded)} pictures answered alike, largest difference {difference:.1g}",
        )
        return out

    def _batches(self, examples: list[Example]):
        return batches(examples, self.labels, self.spec.size, self.spec.batch_size)

    def _probabilities(self, encoded: list[bytes]) -> np.ndarray:
        """Answer encoded pictures by the Keras model, through the pipeline's own decoding."""
        from tlkit.data.decode import decode_and_resize

        pictures = [decode_and_resize(item, self.spec.size).numpy() for item in encoded]
        return np.asarray(self.model.predict_on_batch(np.stack(pictures)), np.float32)

    def _own_test(self) -> list[Example]:
        if ARRAYS in (self.spec.data, self.spec.test):
            raise DataError(f"run {self.folder}: was trained on arrays; say what to evaluate on")
        wanted = set(self.files.read_json("scan.json")["splits"]["test"])
        if not wanted:
            raise DataError(f"run {self.folder}: has no test part; say what to evaluate on")
        source = _open(self.spec, {})
        found = [e for part in source.parts.values() for e in part if e.id in wanted]
        if len(found) != len(wanted):
            raise DataError(
                f"run {self.folder}: {len(wanted) - len(found)} of its {len(wanted)} test pictures "
                f"are no longer in {self.spec.data}"
            )
        return found

    def _parity_pictures(self, count: int) -> list[bytes]:
        """Return the bytes of pictures that the run knows, spread over its classes."""
        import io

        from PIL import Image

        if ARRAYS not in (self.spec.data, self.spec.val, self.spec.test):
            try:
                splits = self.files.read_json("scan.json")["splits"]
                ids = splits["test"] or splits["val"]
                ids = set(ids[:: max(1, len(ids) // count)][:count])
                parts = _open(self.spec, {}).parts.values()
                found = [e.read() for part in parts for e in part if e.id in ids]
                if found:
                    return found
            except (DataError, OSError):
                pass  # the pictures have moved since: smooth ones made here serve as well
        # Smooth, since random noise makes every network answer alike; PNG, since it is lossless.
        random, pictures = np.random.default_rng(0), []
        for _ in range(count):
            coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(coarse).resize((300, 200), Image.Resampling.BICUBIC).save(file, "PNG")
            pictures.append(file.getvalue())
        return pictures


def predict_with(answer, labels: Sequence[str], items: Any, progress: Progress, batch: int = 32):
    """Predict `items` with `answer`, a function from a list of encoded pictures to probabilities.

    Returns:
        See `Run.predict`.

    Raises:
        DataError: a folder holds no pictures.
    """
    found = _listed(items)
    results: list[dict[str, Any]] = []
    with progress.bar("predict", "pictures", len(found)) as advance:
        for start in range(0, len(found), batch):
            rows = [_read(name, item) for name, item in found[start : start + batch]]
            good = [content for _, content, error in rows if error is None]
            p = iter(answer(good) if good else ())
            for name, _, error in rows:
                results.append(_prediction(name, None if error else next(p), labels, error))
            advance(len(rows))
    return results


def _listed(items: Any) -> list[tuple[str, Any]]:
    """Return (name, file or array) of every picture in `items`, folders unfolded."""
    if isinstance(items, np.ndarray):
        items = [items] if items.ndim < 4 else list(items)
    elif isinstance(items, str | Path):
        items = [items]
    found: list[tuple[str, Any]] = []
    for i, item in enumerate(items):
        if isinstance(item, np.ndarray):
            found.append((f"array/{i:06d}", item))
            continue
        path = Path(item)
        if path.is_dir():
            files = picture_files(path)
            if not files:
                raise DataError(f"{path}: holds no pictures")
            found += [(printable(str(file)), file) for file in files]
        else:
            found.append((printable(str(item)), path))
    return found


def _read(name: str, item: Any) -> tuple[str, bytes, str | None]:
    if isinstance(item, np.ndarray):
        return name, _as_png(item), None
    try:
        content = item.read_bytes()
    except OSError as error:
        return name, b"", f"cannot be read: {error.strerror}"
    return name, content, why_undecodable(content)


def _as_png(pixels: np.ndarray) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.squeeze(np.asarray(pixels).round().astype(np.uint8))).save(file, "PNG")
    return file.getvalue()


def _prediction(name: str, p: np.ndarray | None, labels: Sequence[str], error: str | None):
    if p is None:
        return {"path": name, "label": None, "score": None, "probabilities": None, "error": error}
    best = int(p.argmax())
    return {
        "path": name,
        "label": labels[best],
        "score": float(p[best]),
        "probabilities": {label: float(x) for label, x in zip(labels, p, strict=True)},
        "error": None,
    }


def _spec_of(data: Any, val: Any, test: Any, fields: dict[str, Any]):
    """Return the spec, and apart from it the arrays among `data`, `val` and `test`."""
    fields, arrays = dict(fields), {}
    for name, value in (("data", data), ("val", val), ("test", test)):
        if value is None:
            continue
        if isinstance(value, str | Path | int | float):
            fields[name] = str(value) if isinstance(value, Path) else value
        else:
            arrays[name] = value
            fields[name] = ARRAYS
    if fields.get("out") is not None:
        fields["out"] = str(fields["out"])
    return make_spec(fields), arrays


def _prepare(
    spec: RunSpec, arrays: dict[str, Any], progress: Progress, free: bool = True
) -> Prepared:
    """Check the target, read the data, split it."""
    start = time.monotonic()
    if spec.data is None:
        raise DataError("data: is missing. Allowed: a folder of class folders, or example:elpv")
    if free and spec.out:
        check_free(Path(spec.out))
    source = _open(spec, arrays)
    examples = [example for part in source.parts.values() for example in part]
    found = scan(examples, progress, spec.strict)
    shares = {
        part: share
        for part in ("val", "test")
        if part not in source.parts and not isinstance(share := getattr(spec, part), str)
    }
    parts = split(source.parts, found.digests, shares, spec.seed)
    _say_data(source, found, parts, progress)
    return Prepared(_with_full_paths(spec), source, found, parts, time.monotonic() - start)


def _open(spec: RunSpec, arrays: dict[str, Any]) -> Source:
    given = {
        part: arrays.get(part, value)
        for part in ("val", "test")
        if isinstance(value := getattr(spec, part), str)
    }
    return open_source(arrays.get("data", spec.data), **given)


def _with_full_paths(spec: RunSpec) -> RunSpec:
    """Return `spec` with paths that still hold when a command is given from another folder."""
    full = {
        name: str(Path(value).resolve())
        for name in ("data", "val", "test")
        if isinstance(value := getattr(spec, name), str)
        and value != ARRAYS
        and not value.startswith("example:")
    }
    return spec.model_copy(update=full)


def _build(prepared: Prepared) -> tuple[Built, keras.Model]:
    spec = prepared.spec
    keras.backend.clear_session()  # names of earlier models would number this one's layers
    labels, asked = prepared.source.labels, spec.backbone
    with precision(spec):
        built = build_backbone(asked.name, spec.size, asked.weights, asked.alpha)
        return built, attach(built.inputs, built.features, len(labels), spec.head)


def _make_plan(prepared: Prepared, built: Built, callbacks: bool) -> TrainPlan:
    count = len(prepared.split.train)
    return make_plan(prepared.spec, built.layers, count, len(prepared.source.labels), callbacks)


def _execute(
    prepared: Prepared,
    plan: TrainPlan,
    model: keras.Model,
    folder: RunFolder,
    callbacks: Sequence[keras.callbacks.Callback],
    progress: Progress,
    resumed: bool = False,
) -> Run:
    start = time.monotonic()
    trainer = Trainer(
        model,
        prepared.spec,
        prepared.examples("train"),
        prepared.examples("val"),
        folder,
        features_folder(),
        progress,
        callbacks,
    )
    finished = _restore(trainer, folder) if resumed else _start(prepared, plan, folder)
    try:
        results = trainer.run(plan, finished)
        metrics = _metrics(prepared, plan, model, results, folder, progress)
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"interrupted; the best model so far is kept in {folder.best}. "
            f"Go on with: tlkit train --resume {folder.path}"
        ) from error
    metrics["seconds"]["total"] = round(time.monotonic() - start + prepared.seconds, 3)
    folder.write_json("metrics.json", metrics)
    run = Run(folder, prepared.spec)
    run.model = model
    _say_result(metrics, folder, progress)
    return run


def _start(prepared: Prepared, plan: TrainPlan, folder: RunFolder) -> list[PhaseResult]:
    folder.create()
    folder.write_text("spec.yaml", prepared.spec.to_yaml())
    folder.write_json("plan.json", plan.to_json())
    folder.write_json("env.json", describe_environment(prepared.spec))
    folder.write_json("labels.json", list(prepared.source.labels))
    folder.write_json("scan.json", prepared.scan_json())
    return []


def _restore(trainer: Trainer, folder: RunFolder) -> list[PhaseResult]:
    """Put the state of a stopped run into `trainer`; return its finished phases."""
    if not folder.best.is_file() or not (folder.path / "state.json").is_file():
        return []
    state = folder.read_json("state.json")
    if state["score"] is None:  # stopped before the end of its first epoch
        return []
    best = keras.models.load_model(folder.best, compile=False)
    trainer.model.set_weights(best.get_weights())
    trainer.checkpoints.offer(state["score"][0], -state["score"][1])
    return [PhaseResult(**result) for result in state["finished"]]


def _metrics(
    prepared: Prepared,
    plan: TrainPlan,
    model: keras.Model,
    results: list[PhaseResult],
    folder: RunFolder,
    progress: Progress,
) -> dict[str, Any]:
    """Save the model, evaluate it on the test part, and return `metrics.json`."""
    folder.save_model(model, folder.model)
    draw_curves(folder.read_log(), folder.path / "curves.png")
    accuracy, negative_loss = json.loads((folder.path / "state.json").read_text())["score"]
    by_phase = Counter()
    for result in results:
        by_phase[result.name] += result.seconds
    counts = {part: len(ids) for part, ids in prepared.split.ids().items()}
    return {
        "task": "classification",
        "backbone": prepared.spec.backbone.name,
        "regime": plan.regime.value,
        "examples": counts,
        "phases": [
            {
                "name": result.name,
                "trainable_parameters": result.trainable_parameters,
                "seconds": result.seconds,
                "best_val": result.best_val,
                "features_kept": result.cached,
            }
            for result in results
        ],
        "val": {"accuracy": accuracy, "loss": -negative_loss},
        "test": _test_metrics(prepared, model, folder, progress) if counts["test"] else None,
        "seconds": {
            "total": 0.0,
            "scan": round(prepared.seconds, 3),
            "prefix": round(sum(result.prefix_seconds for result in results), 3),
            "head": round(by_phase[HEAD], 3),
            "finetune": round(sum(by_phase.values()) - by_phase[HEAD], 3),
        },
    }


def _test_metrics(
    prepared: Prepared, model: keras.Model, folder: RunFolder, progress: Progress
) -> dict[str, Any]:
    test, labels = prepared.split.test, prepared.source.labels
    part = prepared.examples("test")
    truth = part.classes
    p = probabilities(model, part.pictures(range(len(test))), len(test), progress, "test")
    rows = predictions_csv([e.id for e in test], [e.label for e in test], p, labels)
    folder.write_text("predictions.csv", rows)
    metrics = classification_metrics(truth, p, labels)
    draw_confusion(metrics["confusion"], labels, folder.path / "confusion.png")
    return metrics


def _check_export_target(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ExportError(f"--out {out}: exists already. Allowed: a new or empty folder")
    for parent in out.parents:
        if parent.exists():
            if not parent.is_dir():
                raise ExportError(f"--out {out}: {parent} is a file. Allowed: a new folder")
            return


def _progress(progress: bool | Progress) -> Progress:
    return progress if isinstance(progress, Progress) else Progress(quiet=not progress)


def _say_data(source: Source, found: Scan, parts: Split, progress: Progress) -> None:
    left_out = {**found.left_out, **parts.left_out}
    text = (
        f"{source.name}: {len(parts.train):,} train, {len(parts.val):,} validation, "
        f"{len(parts.test):,} test, {len(source.labels)} classes"
    )
    progress.say("data", text)
    for id_, reason in list(left_out.items())[:5]:
        progress.say("left out", f"{id_}: {reason}")
    if len(left_out) > 5:
        progress.say("left out", f"{len(left_out)} files in all; the others are in scan.json")


def _say_plan(plan: TrainPlan, progress: Progress) -> None:
    progress.say("plan", f"{plan.regime.value} ({plan.regime.reason})")
    for phase in plan.phases:
        progress.say("", f"{phase.name}: {phase.describe()}; BatchNorm {phase.freeze.batchnorm}")


def _say_result(metrics: dict[str, Any], folder: RunFolder, progress: Progress) -> None:
    test = metrics["test"]
    total = metrics["seconds"]["total"]
    if test:
        low, high = test["interval95"]
        progress.say(
            "test",
            f"{test['accuracy']:.3f} of {test['examples']:,} right (95% interval {low:.3f}-"
            f"{high:.3f}), macro F1 {test['macro_f1']:.3f}; {total:.0f} s in all",
        )
    else:
        progress.say("val", f"{metrics['val']['accuracy']:.3f}; no test part; {total:.0f} s in all")
    progress.say("run", str(folder.path))
