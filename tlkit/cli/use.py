"""`tlkit evaluate` and `predict`: what a run or an export answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tlkit.cli.answers import answer_options, check_asked
from tlkit.cli.examples import examples
from tlkit.cli.options import out_option, output, quiet_option, tile_option
from tlkit.cli.predictions import show_predictions, write_csv
from tlkit.cli.quiet import import_tensorflow
from tlkit.data.wording import number
from tlkit.errors import DataError, RunFolderError, SpecError
from tlkit.export.formats import find_export
from tlkit.places import check_csv, check_free, check_there, run_of, the_one
from tlkit.progress import Progress

TOP = 3
"""Labels of an image in the table of `tlkit predict`."""


@click.command(
    epilog=examples(
        "tlkit evaluate runs/first",
        "tlkit evaluate runs/first new/ --out measured/",
        "tlkit evaluate runs/cells --threshold recall=0.95 --positive defective",
    )
)
@click.argument("run", metavar="RUN_OR_EXPORT", type=click.Path(path_type=Path))
@click.argument("data", required=False)
@answer_options
@tile_option
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print all metrics as JSON.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write id, truth, prediction and probabilities.",
)
@out_option("A new or empty folder for metrics.json, predictions.csv and a drawing.")
def evaluate(
    run: Path,
    data: str | None,
    tile: int | None,
    quiet: bool,
    as_json: bool,
    csv_file: Path | None,
    out: Path | None,
    **asked: Any,
) -> None:
    """Measure a run on its own test part, or a run or export on DATA.

    Of DATA with parts it is the test part that is measured.
    """
    check_run(run, export=True)
    asked = check_asked(run, _is_export(run), asked)
    if csv_file:
        check_csv(csv_file, run, data)
    if out:
        check_free(out)
    typed = data
    if data is not None:
        data = the_one(data)
        check_there(data)
    with output(as_json, quiet) as (progress, show):
        import_tensorflow()
        import tlkit

        if data != typed:
            progress.say("note", f"{typed}: read as {data}")
        export = _is_export(run)
        opened = tlkit.open_export(run) if export else tlkit.open_run(run)
        written = {"out": out, "csv": csv_file, "tile": tile}
        metrics = opened.evaluate(data, progress=progress, **written, **asked)
        task = opened.about.task if export else opened.task
        if as_json:
            show(metrics)
        elif quiet:
            show(task.headline(metrics))
        else:
            progress.say("evaluate", task.headline(metrics))
            _show_metrics(metrics, progress)
        for path in (csv_file, out):
            if path is not None:
                names = sorted(file.name for file in path.iterdir()) if path == out else ()
                progress.say("written", f"{path}{': ' if names else ''}{', '.join(names)}")


def _say_probabilities(metrics: dict[str, Any], progress: Progress) -> None:
    """Say what there is of calibration, sets of labels and ranking."""
    from tlkit.tasks.probabilities import compared

    if text := compared(metrics):
        progress.say(
            "calibrated", f"by temperature {metrics['calibration']['temperature']:.3g}: {text}"
        )
    if "sets" in metrics:
        sets = metrics["sets"]
        text = f"{sets['measured']:.3f} hold the true label ({sets['coverage']:g} asked for)"
        progress.say("sets", f"{text}, {sets['mean_size']:.2f} labels in the mean")
    if metrics.get("roc_auc") is not None:
        pairs = ", ".join(f"{name} {x:.3f}" for name, x in metrics["average_precision"].items())
        progress.say("ranking", f"ROC-AUC {metrics['roc_auc']:.3f}; average precision: {pairs}")


def _show_metrics(metrics: dict[str, Any], progress: Progress) -> None:
    from rich.table import Table

    _say_probabilities(metrics, progress)
    tops = [f"top-{k} {share:.3f}" for k, share in metrics.get("top_k", {}).items() if k != "1"]
    if tops:
        progress.say("", ", ".join(tops))
    if rows := metrics.get("per_class") or metrics.get("per_target"):
        table = Table("class" if "per_class" in metrics else "number", *next(iter(rows.values())))
        for name, row in rows.items():
            shown = (
                "-" if x is None else str(x) if isinstance(x, int) else f"{x:.4g}"
                for x in row.values()
            )
            table.add_row(name, *shown)
        progress.console.print(table)
    left_out = metrics["left_out"]
    for item in left_out[:5]:
        progress.say("left out", f"{item['id']}: {item['reason']}")
    if len(left_out) > 5:
        progress.say("left out", f"{len(left_out):,} in all; --json names them")


@click.command(
    epilog=examples(
        "tlkit predict runs/first photo.jpg",
        "tlkit predict served/ images/ --csv labels.csv",
        "tlkit predict runs/first images/ --coverage 0.9",
    )
)
@click.argument("model", metavar="RUN_OR_EXPORT", type=click.Path(path_type=Path))
@click.argument("items", metavar="FILES_OR_FOLDERS...", nargs=-1, required=True)
@click.option(
    "--top",
    type=click.IntRange(1),
    metavar="K",
    help=f"Labels shown for each image in the table. [default: {TOP}]",
)
@answer_options
@tile_option
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list in the order given.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write path, label, score, probabilities and error.",
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A new or empty folder for maps of classes, PNG of the originals' size (segmentation).",
)
@click.option(
    "--overlay",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A new or empty folder for images with their answers drawn over them.",
)
@click.option(
    "--coco",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the objects found as COCO results; FILE-images beside says what the ids mean "
    "(detection).",
)
@click.option(
    "--yolo",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A new or empty folder for the objects found as YOLO text, with their scores (detection).",
)
def predict(
    model: Path,
    items: tuple[str, ...],
    top: int | None,
    tile: int | None,
    quiet: bool,
    as_json: bool,
    csv_file: Path | None,
    masks: Path | None,
    overlay: Path | None,
    coco: Path | None,
    yolo: Path | None,
    **asked: Any,
) -> None:
    """Label images with a run folder or an export of any format.

    Images are answered in the order given, those of a folder by name. One that cannot be
    decoded is named with its reason and never stops the others; if there is no other, the exit
    code is 2.
    """
    if as_json and csv_file:
        raise SpecError("--json, --csv: choose one of them")
    if top is not None and (as_json or csv_file):
        other = "--json" if as_json else "--csv"
        raise SpecError(
            f"--top: has no effect with {other}, which has all labels. Allowed: left out. "
            f"Received: {top}"
        )
    if top is not None and asked["coverage"] is not None:
        raise SpecError(
            "--top: has no effect with --coverage, which shows the set in the place of the next "
            f"labels. Allowed: left out. Received: {top}"
        )
    check_run(model, export=True)
    if csv_file:
        check_csv(csv_file, model, *items)
    asked = check_asked(model, _is_export(model), asked)
    files = {"masks": masks, "overlay": overlay, "coco": coco, "yolo": yolo}
    asked |= {**files, "tile": tile}
    with output(as_json, quiet) as (progress, show):
        results = _predict(model, items, asked, progress)
        for path in filter(None, files.values()):
            progress.say("written", str(path))
        if as_json:
            show(results)
        elif csv_file:
            write_csv(results, csv_file)
            progress.say("predict", f"{number(len(results), 'image')} in {csv_file}")
        else:
            show_predictions(results, top or TOP, Progress())
    if all(row["error"] for row in results):
        first = f"{results[0]['path']}: {results[0]['error']}"
        raise DataError(f"none of the {len(results)} files could be used. The first, {first}")


def _predict(
    model: Path, items: tuple[str, ...], asked: dict[str, Any], progress: Progress
) -> list[dict[str, Any]]:
    import_tensorflow()
    import tlkit

    opened = tlkit.open_export(model) if _is_export(model) else tlkit.open_run(model)
    return opened.predict(items, **asked, progress=progress)


def check_run(path: Path, export: bool = False) -> None:
    """Answer a mistyped path before TensorFlow's seconds of import."""
    if (run_of(path) / "spec.yaml").is_file() or (export and _is_export(path)):
        return
    problem = "holds no spec.yaml" if path.is_dir() else "is no folder"
    if path.suffix == ".keras" and path.is_file():
        problem = "is not in the folder of its run, which says its labels"
    allowed = "a folder made by tlkit train" + (" or tlkit export" if export else "")
    raise RunFolderError(f"run {path}: {problem}. Allowed: {allowed}")


def _is_export(path: Path) -> bool:
    """Tell whether `path` is an export; a run folder holds none at its top."""
    return not (path / "spec.yaml").is_file() and find_export(path) is not None
