"""Data from CSV files."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from conftest import TINY

import tlkit
from tlkit.cli.main import main
from tlkit.data.readers.open import open_source
from tlkit.errors import DataError, SpecError
from tlkit.spec.read import make_spec
from tlkit.spec.tables import TableSpec
from tlkit.tasks.registry import TASKS


def write_table(folder, lines):
    """Write a table beside the empty files that it may name: listing looks at names only."""
    for name in "abcd":
        (folder / f"{name}.png").touch()
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(image_folder, tmp_path):
    """A CSV beside a folder of all images, no class folders."""
    files = sorted(image_folder.rglob("*.png"))
    lines = ["image,label"]
    (tmp_path / "all").mkdir()
    for file in files:
        (tmp_path / "all" / file.name).write_bytes(file.read_bytes())
        lines.append(f"all/{file.name},{file.parent.name}")
    return write_table(tmp_path, lines)


def test_a_table_gives_the_examples_of_the_folder(table, image_folder):
    source, folders = open_source(str(table)), open_source(str(image_folder))
    assert source.outputs == folders.outputs
    assert source.name == "labels"
    pairs = {(e.path.name, e.label) for e in source.parts["train"]}
    assert pairs == {(e.path.name, e.label) for e in folders.parts["train"]}


def test_training_and_evaluation_take_a_table(table, tmp_path):
    run = tlkit.train(table, regime="small", out=tmp_path / "run", progress=False, **TINY)
    assert run.metrics["examples"] == {"train": 24, "val": 6, "test": 6}
    assert run.evaluate(progress=False)["accuracy"] == run.metrics["test"]["accuracy"]
    assert run.evaluate(table, progress=False)["seen_in_training"] == 24


def test_splits_of_a_table_are_kept(tmp_path):
    rows = ["a.png,x,train", "b.png,y,", "c.png,x,valid", "d.png,y,Test"]
    parts = open_source(str(write_table(tmp_path, ["image,label,split", *rows]))).parts
    ids = {part: [e.id for e in examples] for part, examples in parts.items()}
    assert ids == {"train": ["a.png", "b.png"], "val": ["c.png"], "test": ["d.png"]}


def test_repeated_rows_count_once_and_two_labels_are_told_apart(tmp_path):
    rows = ["a.png,x", "a.png,x", "a.png,y", "b.png,y"]
    examples = open_source(str(write_table(tmp_path, ["image,label", *rows]))).parts["train"]
    assert [(e.id, e.label) for e in examples] == [("a.png", "x"), ("a.png#2", "y"), ("b.png", "y")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,label", "a.png,x"], "lacks the column image. .*Received: file, label"),
        (
            ["a.png"],
            "lacks the column image and label. The first line looks like a row: put image,",
        ),
        (["image,label", "a.png,"], "line 2: label is empty"),
        (["image,label", "a.png,x", ",y"], "line 3: image is empty"),
        (["image,label", "../a.png,x"], "line 2: the image lies outside the folder of the CSV"),
        (["image,label", "/etc/passwd,x"], "lies outside"),
        (["image,label,split", "a.png,x,one"], "unknown split. .*Received: 'one'"),
        (["image,label,split", "a.png,x,test"], "has no training rows"),
        (["image,label,split", "a.png,x,train", "a.png,x,test"], "a.png stands in two splits"),
        (["image,label", "a.png,x"], "at least two classes"),
    ],
)
def test_a_bad_table_says_where(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        open_source(str(write_table(tmp_path, lines)))


FLAGS = ["image,x,y", "a.png,1,0", "b.png,,", "c.png,0,1", "d.png,,"]
NUMBERS = ["image,x,y", "a.png,1.5,0", "b.png,,", "c.png,0,1", "d.png,2,7"]
SEVERAL = {"targets": ["x", "y"]}
UNLABELLED = {
    "one": (["image,label", "a.png,x", "b.png,", "c.png,y"], "classification", {}, [3], "label"),
    "blanks": (["image,label", "a.png,x", "b.png,  ", "c.png,y"], "classification", {}, [3], "l"),
    "a header alone": (["image,label,n", "a.png,x,1", "b.png", "c.png,y,"], None, {}, [3], "label"),
    "several": (
        ["image,label,split", "a.png,x,", "b.png,,test", "c.png,y,", "d.png,,val"],
        *("classification", {}, [3, 5], "label"),
    ),
    "one-hot": (FLAGS, "classification", SEVERAL, [3, 5], "x, y"),
    "flags": (FLAGS, "multilabel", SEVERAL, [3, 5], "x, y"),
    "numbers": (NUMBERS, "regression", SEVERAL, [3], "x, y"),
}


def read(tmp_path, lines, task, **table):
    targets = TASKS[task or "classification"].labels(TableSpec(**table))
    return open_source(str(write_table(tmp_path, lines)), targets=targets)


@pytest.mark.parametrize("case", UNLABELLED)
def test_rows_without_a_label_are_refused_with_a_way_on_and_left_out_where_asked(tmp_path, case):
    lines, task, table, empty, columns = UNLABELLED[case]
    if case == "a header alone":  # a row that ends early is no row without a label
        with pytest.raises(DataError, match="line 3: needs as many fields"):
            read(tmp_path, lines, task, unlabelled="drop", **table)
        return
    with pytest.raises(DataError) as caught:
        read(tmp_path, lines, task, **table)
    text = str(caught.value)
    assert f"line {empty[0]}: {columns}" in text
    assert ", as in 1 more row (5)" in text or len(empty) == 1
    assert "or --set table.unlabelled=drop: they are left out. Received: " in text
    source = read(tmp_path, lines, task, unlabelled="drop", **table)
    kept = {e.id for part in source.parts.values() for e in part}
    assert kept == {line.split(",")[0] for i, line in enumerate(lines, 1) if i not in {1, *empty}}
    rows = "1 row" if len(empty) == 1 else "2 rows"
    where = "line 3" if len(empty) == 1 else "lines 3, 5"
    (note,) = (x for x in source.notes if "without a label" in x)
    assert note.startswith(f"{rows} without a label left out, as {columns}")
    assert note.endswith(f": {where}")


@pytest.mark.parametrize("unlabelled", ["error", "drop"])
@pytest.mark.parametrize(
    ("lines", "table"),
    [
        (["image,label", "a.png,", "b.png,"], {}),
        (["image,x,y", "a.png,,"], SEVERAL),
    ],
    ids=["a label", "columns"],
)
def test_a_table_without_any_label_is_refused(tmp_path, lines, table, unlabelled):
    with pytest.raises(DataError, match="Allowed: rows with a label. Received: 0 of"):
        read(tmp_path, lines, None, unlabelled=unlabelled, **table)


def test_half_a_label_is_none_that_may_be_left_out(tmp_path):
    lines = ["image,x,y", "a.png,1,2", "b.png,,3"]
    with pytest.raises(DataError, match="line 3: x"):
        read(tmp_path, lines, "regression", unlabelled="drop", **SEVERAL)


def test_an_image_of_several_labels_may_have_none(tmp_path):
    lines = ["image,label", "a.png,x|y", "b.png,", "c.png,y"]
    source = read(tmp_path, lines, "multilabel")
    assert [e.label for e in source.parts["train"]] == [("x", "y"), (), ("y",)]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"task": "multilabel"}, "an empty cell says that the image has none of the labels"),
        ({"task": "multilabel", "table": SEVERAL | {"uncertain": "negative"}}, "an empty cell is"),
    ],
    ids=str,
)
def test_leaving_out_what_is_labelled_is_refused(fields, why):
    table = fields.get("table", {}) | {"unlabelled": "drop"}
    with pytest.raises(SpecError, match=f"table.unlabelled: has no effect here, {why}"):
        make_spec(fields | {"table": table})


def test_a_run_without_the_rows_that_have_no_label(table, tmp_path, capsys):
    with table.open("a", encoding="utf-8") as file:
        file.write("a.png,\nb.png,\n")
    done = CliRunner().invoke(main, ["data", "scan", str(table)])
    assert done.exit_code == 2
    assert "line 38: label is empty, as in 1 more row (39). Allowed: a label in each" in done.stderr
    fields = {"regime": "small", "out": tmp_path / "run", **TINY}
    run = tlkit.train(table, table={"unlabelled": "drop"}, **fields)
    assert "note      2 rows without a label left out, as label is empty: lines 38, 39" in (
        capsys.readouterr().out
    )
    assert run.metrics["examples"] == {"train": 24, "val": 6, "test": 6}
    assert run.evaluate(progress=False)["examples"] == 6


def test_a_table_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xff\xfe\x00imag")
    with pytest.raises(DataError, match="cannot be read as UTF-16: .*table.encoding=NAME"):
        open_source(str(path))


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        open_source(str(tmp_path / "labels.csv"))


def test_files_of_a_table_that_are_gone_are_left_out(table):
    with table.open("a", encoding="utf-8") as file:
        file.write("all/gone.png,disc\n")
    result = CliRunner().invoke(main, ["data", "scan", str(table), "--json"])
    left_out = json.loads(result.stdout)["left_out"]
    assert left_out == [
        {"id": "all/gone.png", "reason": "cannot be read: No such file or directory"}
    ]
