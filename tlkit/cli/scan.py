"""`tlkit data scan`: what is in a data set, and what is wrong with it."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from tlkit.backbones.sides import told
from tlkit.cli.examples import examples
from tlkit.cli.options import output, spec_fields
from tlkit.cli.quiet import import_tensorflow
from tlkit.places import check_png
from tlkit.progress import Progress
from tlkit.spec.read import make_spec

SHOWN = 3
"""Files named in a line of the table; --json has all of them."""


@click.command(
    epilog=examples(
        "tlkit data scan flowers/",
        "tlkit data scan flowers/ --sheet odd.png",
        "tlkit data scan a.csv --set task=multilabel --json",
    )
)
@click.argument("source", metavar="DATA")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set task, a field of table, group, backbone.name, image_size, resize, alpha or bits, as "
    "for train.",
)
@click.option(
    "--sheet",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Also draw a contact sheet of the suspicious files.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def scan(source: str, settings: tuple[str, ...], sheet: Path | None, as_json: bool) -> None:
    """Say what is in DATA: classes, sizes, formats, broken files, duplicates.

    Files that have not changed since an earlier scan or training are not read again; what was
    found is kept in the folder `scan` of TLKIT_CACHE (tlkit cache clear removes it).
    """
    spec = make_spec(spec_fields(source, None, settings, {}, "data scan"))
    if sheet:
        check_png(sheet, "--sheet")
    with output(as_json) as (progress, show):
        import_tensorflow()
        from tlkit.data.pictures.rendering import rendering_of
        from tlkit.data.scan.contact_sheet import write_sheet
        from tlkit.data.scan.summary import scan_source
        from tlkit.tasks.registry import targets_of

        targets, asked = targets_of(spec), rendering_of(spec)
        found = scan_source(spec.data, progress, targets, spec.known_size, asked, spec.group)
        summary, examples, shown = found
        if sheet:
            tiles = write_sheet(summary, examples, sheet, shown)
        if as_json:
            show(summary)
        else:
            _show(summary, progress)
        if sheet:
            progress.say("sheet", f"{sheet}: {tiles} tiles")


def _show(summary: dict[str, Any], progress: Progress) -> None:
    from tlkit.data.scan.box_frames import say_boxes
    from tlkit.data.scan.pixel_facts import say_facts

    for note in summary["notes"]:
        progress.say("note", note)
    _show_classes(summary, progress)
    if summary["groups"]:
        _show_groups(summary["groups"], progress)
    files, sizes = summary["files"], summary["sizes"]
    progress.say(
        "files",
        f"{files['usable']:,} of {files['given']:,} can be used; {files['bytes'] / 2**20:,.1f} MiB",
    )
    if sizes["median"]:
        shown = ", ".join(f"{name} {w} x {h}" for name, (w, h) in sizes.items())
        progress.say("sizes", f"{shown} (by pixels)")
    for name in ("formats", "modes"):
        shown = ", ".join(f"{count:,} {value}" for value, count in summary[name].items())
        if shown:
            progress.say(name, shown)
    say_boxes(summary.get("boxes", {}), progress)
    say_facts(summary, files["usable"], progress)
    if resized := summary.get("resized_masks"):
        from tlkit.data.feed.say import resized_text

        progress.say("masks", resized_text(resized, files["usable"]))
    _show_suspicious(summary, progress)


def _show_groups(found: dict[str, Any], progress: Progress) -> None:
    from tlkit.data.groups import groups_line

    progress.say("groups", groups_line(found))
    if found["across_parts"]:
        progress.say("", f"in two parts, which train refuses: {_named(found['across_parts'])}")


def _show_classes(summary: dict[str, Any], progress: Progress) -> None:
    from rich.table import Table
    from rich.text import Text

    parts = list(summary["classes"])
    labels = sorted({label for counts in summary["classes"].values() for label in counts})
    if not labels:
        return
    table = Table("class", *parts, "usable", "median size", "MiB")
    for label in labels:
        counts = [f"{summary['classes'][part].get(label, 0):,}" for part in parts]
        own = summary["per_class"].get(label, {"usable": 0, "median": None, "bytes": 0})
        median = " x ".join(map(str, own["median"] or ["-"]))
        row = (*counts, f"{own['usable']:,}", median, f"{own['bytes'] / 2**20:,.1f}")
        table.add_row(Text(label, overflow="fold"), *row)
    progress.console.print(table)


def _show_suspicious(summary: dict[str, Any], progress: Progress) -> None:
    by_reason = defaultdict(list)
    for item in summary["left_out"]:
        by_reason[item["reason"]].append(item["id"])
    for reason, ids in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        progress.say("left out", f"{reason}: {_named(ids)}")
    across = {tuple(group) for group in summary["across_parts"]}
    labels = {tuple(group) for group in summary["two_labels"]}
    for group in map(tuple, summary["duplicates"][: 5 * SHOWN]):
        notes = [", in two parts"] * (group in across) + [", with two labels"] * (group in labels)
        progress.say("twice", ", ".join(group) + "".join(notes))
    if len(summary["duplicates"]) > 5 * SHOWN:
        progress.say("", f"{len(summary['duplicates']):,} such groups in all")
    _show_near(summary.get("near_duplicates"), progress)
    for item in summary["misnamed"][:SHOWN]:
        progress.say("misnamed", f"{item['id']}: is {item['is']}, its name says {item['named']}")
    if len(summary["misnamed"]) > SHOWN:
        progress.say("", f"{len(summary['misnamed']):,} such files in all")
    if summary["several"]:
        progress.say("animated", f"the first frame counts: {_named(summary['several'])}")
    small = summary["small"]
    if small["count"]:
        progress.say(
            "small",
            f"{small['count']:,} images have a side below the model's input of "
            f"{told(small['input'])} pixels, such as {', '.join(small['smallest'][:SHOWN])}",
        )
    balance = summary["imbalance"]
    if balance and balance["hint"]:
        from tlkit.data.feed.say import imbalance_text

        progress.say("imbalance", imbalance_text(balance))


def _show_near(near: dict[str, Any] | None, progress: Progress) -> None:
    if near is None:
        return
    if near["note"]:
        progress.say("alike", f"near-duplicates were not searched: {near['note']}")
        return
    for pair in near["pairs"][:SHOWN]:
        where = ", in two parts" if pair["across_parts"] else ""
        progress.say("alike", f"{' and '.join(pair['ids'])} ({pair['bits']} of 64 bits){where}")
    if near["count"] > SHOWN:
        across = f", {near['across_parts']:,} in two parts" if near["across_parts"] else ""
        progress.say("", f"{near['count']:,} such pairs in all{across}")


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more
