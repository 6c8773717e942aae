"""Data from CSV files."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from conftest import TINY

import tlkit
from tlkit.cli.main import main
from tlkit.data.sources import open_source
from tlkit.errors import DataError


def write_table(folder, lines):
    """Write a table beside the empty files that it may name: listing looks at names only."""
    for name in "abcd":
        (folder / f"{name}.png").touch()
    path = folder / "labels.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(pictures, tmp_path):
    """A CSV beside a folder of all pictures, no class folders."""
    files = sorted(pictures.rglob("*.png"))
    lines = ["image,label"]
    (tmp_path / "all").mkdir()
    for file in files:
        (tmp_path / "all" / file.name).write_bytes(file.read_bytes())
        lines.append(f"all/{file.name},{file.parent.name}")
    return write_table(tmp_path, lines)


def test_a_table_gives_the_examples_of_the_folder(table, pictures):
    source, folders = open_source(str(table)), open_source(str(pictures))
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
