"""Data made to do harm: each ends in a clear message, in bounded memory, within the run folder."""

from __future__ import annotations

import csv
import json
import os
import time
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY, reseal, write_images
from test_decode import png_bomb

import tlkit
from tlkit.backbones.lite0.torch_legacy import read_state_dict
from tlkit.cli.main import main
from tlkit.data.csv_cells import csv_cell
from tlkit.data.readers.open import open_source
from tlkit.data.scan import scan, summary
from tlkit.errors import BackboneError, DataError, RunFolderError, SpecError, WeightsError
from tlkit.progress import Progress
from tlkit.runfolder.folder import next_folder
from tlkit.spec.read import make_spec, merge, read_recipe

QUIET = Progress(quiet=True)
FIELDS = {**TINY, "regime": "small", "progress": False}
EVIL = "\x1b[31mred\x1b[0m\n\u202etxt\udcff"
"""A name that would colour the screen, break the line, turn the writing, and is not UTF-8."""


def call(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def outside(folder: Path, inside: str) -> set[str]:
    """Return what lies in `folder`, but for what lies in its folder `inside`."""
    found = {path.relative_to(folder) for path in folder.rglob("*")}
    return {str(path) for path in found if path.parts[0] != inside}


def scanned(data: Path) -> dict:
    return summary.scan_source(str(data), QUIET)[0]


def reasons(data: Path) -> dict[str, str]:
    return {item["id"]: item["reason"] for item in scanned(data)["left_out"]}


# Files that are no images, or too large an image


@pytest.fixture(scope="module")
def traps(tmp_path_factory) -> Path:
    """Two good classes, and in the first what no decoder may touch."""
    folder = write_images(tmp_path_factory.mktemp("traps") / "traps", count=4)
    disc = folder / "disc"
    (disc / "bomb.png").write_bytes(png_bomb(60_000, 60_000))
    os.mkfifo(disc / "pipe.jpg")
    (disc / "zero.jpg").symlink_to("/dev/zero")
    with (disc / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    (disc / "gone.jpg").symlink_to("absent.jpg")
    (disc / "loop.jpg").symlink_to("loop.jpg")
    (disc / "round").symlink_to(folder, target_is_directory=True)
    np.save(disc / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (disc / "objects.npy").rename(disc / "objects.png")
    return folder


TRAPS = {
    "disc/bomb.png": "too large: 60000 x 60000 pixels",
    "disc/pipe.jpg": "cannot be read: is a pipe or a device",
    "disc/zero.jpg": "cannot be read: is a pipe or a device",
    "disc/sparse.png": "cannot be read: too large: 1,099,511,627,776 bytes",
    "disc/gone.jpg": "cannot be read: No such file or directory",
    "disc/loop.jpg": "cannot be read: Too many levels of symbolic links",
    "disc/round": "cannot be read: is a folder, or a link to one, which is not followed",
    "disc/objects.png": "not an image: starts with b'\\x93NUMPY",
}


def test_each_trap_is_named_with_its_reason(traps):
    found = reasons(traps)
    assert set(found) == set(TRAPS)
    for id_, reason in TRAPS.items():
        assert found[id_].startswith(reason)


def test_traps_are_out_of_training_and_nothing_is_written_beside_it(traps, tmp_path):
    before = outside(traps, "")
    run = tlkit.train(traps, out=tmp_path / "run", **FIELDS)
    listed = json.loads((run.folder / "scan.json").read_text())["left_out"]
    assert {item["id"] for item in listed} == set(TRAPS)
    assert sum(run.metrics["examples"].values()) == 12
    assert outside(tmp_path, "run") == set()
    assert outside(traps, "") == before


def test_prediction_names_traps_and_answers_the_rest(traps, tiny_run):
    names = [*TRAPS, "disc/disc00.png"]
    rows = tiny_run.predict([traps / name for name in names if name != "disc/round"])
    assert rows[-1]["label"] == "disc"
    assert all(TRAPS[row["path"][len(str(traps)) + 1 :]] in row["error"] for row in rows[:-1])
    assert len(tiny_run.predict(traps / "disc")) == len(TRAPS) + 4


def test_a_damaged_image_does_not_spoil_its_batch(image_folder, tiny_run, tmp_path):
    good = sorted((image_folder / "disc").iterdir())[:3]
    cut = tmp_path / "cut.png"
    cut.write_bytes(good[0].read_bytes()[:-40])
    rows = tiny_run.predict([good[0], cut, *good[1:], "a\0b.png"])
    assert [row["label"] for row in rows] == ["disc", None, "disc", "disc", None]
    assert rows[1]["error"] == "truncated or corrupt PNG"
    assert rows[4]["error"] == "cannot be read: its name holds a NUL byte"
    assert rows[4]["path"] == "a\\x00b.png"


def test_large_images_do_not_wait_in_one_batch(image_folder, tiny_run, monkeypatch):
    from tlkit.evaluate import predictor

    sizes = []
    monkeypatch.setattr(predictor, "HELD", 3 * 40 * 48)
    real = predictor._answer_usable
    monkeypatch.setattr(
        predictor, "_answer_usable", lambda f, x: sizes.append(len(x)) or real(f, x)
    )
    rows = tiny_run.predict(image_folder / "disc")
    assert {row["label"] for row in rows} == {"disc"}
    assert sum(sizes) == 12
    assert max(sizes) <= 3


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv", "rows.csv")])
def test_nothing_to_predict_is_an_error(tmp_path, monkeypatch, tiny_run, form):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jpg").touch()
    result = call("predict", tiny_run.folder, "empty.jpg", "absent.jpg", *form)
    assert result.exit_code == 2
    said = "tlkit: none of the 2 files could be used. The first, empty.jpg: empty file\n"
    assert result.stderr.endswith(said)
    if form == ("--json",):
        assert json.loads(result.stdout)[0]["error"] == "empty file"
    if "--csv" in form:
        assert (tmp_path / "rows.csv").read_text().count("\n") == 3


def test_one_large_image_at_a_time_is_looked_at(image_folder, monkeypatch):
    """Several threads on images at the limit would take half a gigabyte each."""
    from tlkit.data.scan import inspect as look

    inside, most = [], []
    real = look.pixels_as_stored

    def watch(*arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return real(*arguments)

    monkeypatch.setattr(look, "pixels_as_stored", watch)
    monkeypatch.setattr(look, "LARGE", 100)
    monkeypatch.setattr(scan, "CORES", 8)
    monkeypatch.setattr(scan.Verdicts, "get", lambda *_: None)
    scanned(image_folder)
    assert max(most) == 1


# Links


def test_links_to_files_and_class_folders_are_followed(image_folder, tmp_path):
    """Splits and subsets are often made of links; nothing is ever written through one."""
    data = tmp_path / "links"
    data.mkdir()
    (data / "disc").symlink_to(image_folder / "disc", target_is_directory=True)
    (data / "square").mkdir()
    for file in (image_folder / "square").iterdir():
        (data / "square" / file.name).symlink_to(file)
    summary = scanned(data)
    assert summary["left_out"] == []
    assert summary["classes"]["train"] == {"disc": 12, "square": 12}


def test_a_loop_of_links_ends(tmp_path):
    data = write_images(tmp_path / "loop", count=2)
    (data / "again").symlink_to(data, target_is_directory=True)
    (data / "disc" / "up").symlink_to("..", target_is_directory=True)
    with pytest.raises(DataError, match="again is a copy of the folders beside it"):
        open_source(data)
    (data / "again").unlink()
    ids = [e.id for e in open_source(data).parts["train"]]
    assert len(ids) == 6 + 1  # each class, and the link, which is not followed
    assert "disc/up" in ids


def test_an_unreadable_folder_is_said(tmp_path, monkeypatch):
    data = write_images(tmp_path / "shut", count=1)
    real = os.scandir

    def refuse(path):
        if str(path).endswith("square"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="square: cannot be read: Permission denied"):
        open_source(data)


# Names


@pytest.fixture(scope="module")
def evil(tmp_path_factory) -> Path:
    """Images whose folders and files are called what no terminal or spreadsheet should see."""
    folder = tmp_path_factory.mktemp("evil") / f"data{EVIL}"
    names = (EVIL, "=HYPERLINK(1)", "[b]$x^$ :cat:")
    write_images(folder, count=5)
    for old, new in zip(("disc", "square", "stripes"), names, strict=True):
        (folder / old).rename(folder / new)
        for i, file in enumerate(sorted((folder / new).iterdir())):
            file.rename(file.with_name(f"{i}{EVIL}.png"))
    (folder / EVIL / f"broken{EVIL}.jpg").write_bytes(b"\x1b]0;title\x07")
    return folder


def harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.fixture(scope="module")
def evil_run(evil, tmp_path_factory):
    """A working folder in which `tlkit train --out run` was called on it, and what it printed."""
    here = tmp_path_factory.mktemp("here")
    quick = ["--backbone", "MobileNet", "--image-size", "32", "--regime", "small"]
    quick += ["--set", "backbone.weights=none", "--set", "backbone.alpha=0.25"]
    return here, call("train", evil, "--out", here / "run", *quick)


def test_names_are_made_printable_everywhere(evil, evil_run, monkeypatch):
    here, result = evil_run
    monkeypatch.chdir(here)
    assert result.exit_code == 0, result.stderr
    assert harmless(result.stdout)
    assert "left out" in result.stdout
    for name in ("scan.json", "labels.json", "predictions.csv", "metrics.json"):
        assert harmless((here / "run" / name).read_text(encoding="utf-8")), name
    labels = json.loads((here / "run" / "labels.json").read_text())
    assert labels[1:] == ["[b]$x^$ :cat:", "\\x1b[31mred\\x1b[0m\\n\\u202etxt\\xff"]
    assert outside(here, "run") == set()
    for command in (
        ["evaluate", "run"],
        ["evaluate", "run", evil],
        ["predict", "run", evil / EVIL],
        ["predict", "run", evil / EVIL, "--json"],
        ["data", "scan", evil, "--sheet", "sheet.png"],
        ["data", "scan", evil, "--json"],
    ):
        done = call(*command)
        assert done.exit_code == 0, done.output
        assert harmless(done.output), command
    assert "[b]$x^$ :cat:" in call("data", "scan", evil).stdout
    refused = call("data", "scan", here / EVIL)
    assert refused.exit_code == 2
    assert harmless(refused.stderr)


def test_cells_that_begin_as_formulas_are_quoted(evil, evil_run, tmp_path):
    run = evil_run[0] / "run"
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "'=HYPERLINK(1)" in {row["truth"] for row in rows}
    written = tmp_path / "rows.csv"
    call("predict", run, evil / "=HYPERLINK(1)", "--csv", written)
    with written.open(newline="") as file:
        rows += list(csv.DictReader(file))
    assert not any(cell.startswith("=") for row in rows for cell in row.values() if cell)


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("\t=1", "'\t=1"),
        *((same, same) for same in ("-1", "+2.5", "-", "+", "a=b", "", "rose", -1.5, None)),
    ],
)
def test_what_counts_as_a_formula(cell, written):
    assert csv_cell(cell) == written


@pytest.mark.parametrize(
    "names",
    [("disc/a\n.png", "disc/a\\n.png"), ("x\n/a.png", "x\\n/b.png")],
    ids=["files", "classes"],
)
def test_names_that_become_one_are_refused(tmp_path, names):
    data = write_images(tmp_path / "data", count=2)
    for name in names:
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes((data / "disc" / "disc00.png").read_bytes())
    with pytest.raises(DataError, match="cannot be told apart once they are made printable"):
        open_source(data)


def test_a_long_name_of_the_data_gives_a_name_that_a_folder_may_have():
    assert len(next_folder("x" * 250, "y" * 250).name) < 255


# Many files


def test_thousands_of_empty_files_are_answered_in_seconds(tmp_path):
    """100,000 take 5 s to look at, and about 3 kB of memory each (measured by hand)."""
    data = write_images(tmp_path / "many", labels=("disc",), count=2)
    (data / "empty").mkdir()
    for i in range(5_000):
        (data / "empty" / f"{i}.jpg").touch()
    start = time.monotonic()
    with pytest.raises(DataError, match=r"fewer than 2 usable.*: 'empty' \(0\)"):
        tlkit.train(data, out=tmp_path / "run", **FIELDS)
    assert time.monotonic() - start < 20
    assert not (tmp_path / "run").exists()


# Tables


def table(folder: Path, *lines: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(["image,label", *lines]) + "\n", encoding="utf-8")
    return path


LABELS = ("../x", "/etc/x", "..", "a/../../b", "[/b]", "x" * 255)


@pytest.fixture(scope="module")
def labelled(image_folder, tiny_weights, tmp_path_factory):
    """A run on a table with labels that would be paths or markup; exported."""
    home = tmp_path_factory.mktemp("labelled")
    lines = []
    for i, file in enumerate(sorted(image_folder.rglob("*.png"))):
        (home / file.name).write_bytes(file.read_bytes())
        lines.append(f"{file.name},{LABELS[i % 6]}")
    backbone = {**TINY["backbone"], "weights": tiny_weights}
    fields = {**FIELDS, "backbone": backbone}
    run = tlkit.train(table(home, *lines), out=home / "run", **fields)
    run.export(progress=False)
    return run


def test_a_label_never_becomes_a_path(labelled):
    assert sorted(labelled.labels) == sorted(LABELS)
    home = labelled.folder.parent
    left = {name for name in outside(home, "run") if not name.endswith(".png")}
    assert left == {"labels.csv"}
    assert not (home.parent / "x").exists()
    shown = call("evaluate", labelled.folder)
    assert shown.exit_code == 0
    assert "[/b]" in shown.stdout


def test_an_export_names_a_damaged_image_and_answers_the_rest(labelled, image_folder, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes((image_folder / "disc" / "disc00.png").read_bytes()[:-40])
    exported = labelled.folder / "export" / "savedmodel"
    result = call("predict", exported, cut, image_folder / "disc" / "disc01.png", "--json")
    rows = json.loads(result.stdout)
    assert result.exit_code == 0
    assert rows[0]["error"] == "truncated or corrupt PNG"
    assert rows[1]["label"] in LABELS


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a\0.png,x", "line 2: image holds a NUL byte"),
        ("../a.png,x", "line 2: the image lies outside .*table.outside=true"),
        ("sub/../../a.png,x", "line 2: the image lies outside"),
        ("/etc/passwd,x", "line 2: the image lies outside .*Received: '/etc/passwd'"),
        (
            f"a.png,{'x' * 256}",
            "line 2: label: is no name of a class.*255.*256, beg",
        ),
        (f"a.png,{'x' * 200_000}", "line 2: is not CSV: field larger than field limit"),
        (f"a.png,{'x' * 2_000_000}", "line 2: is not CSV: field larger than field limit"),
        ("..\\a.png,x", "line 2: the image lies outside"),
        ("a\\..\\..\\a.png,x", "line 2: the image lies outside"),
    ],
)
def test_rows_made_to_do_harm_are_refused(tmp_path, line, words):
    with pytest.raises(DataError, match=words):
        open_source(table(tmp_path, line, "b.png,y"))


def test_a_nul_byte_in_a_label_is_made_printable(tmp_path):
    (tmp_path / "a.png").touch()
    examples = open_source(table(tmp_path, "a.png,x\0y", "b.png,y")).parts["train"]
    assert examples[0].label == "x\\x00y"


def test_a_header_with_escape_sequences_is_printed_harmlessly(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("\x1b[2Jfile,label\na,b\n")
    result = call("data", "scan", path)
    assert result.exit_code == 2
    assert "Received: \\x1b[2Jfile, label" in result.stderr


def test_paths_outside_are_taken_where_they_are_allowed(image_folder, tmp_path):
    lines = [f"{file},{file.parent.name}" for file in sorted(image_folder.rglob("*.png"))]
    data = table(tmp_path, *lines)
    result = call("data", "scan", data, "--set", "table.outside=true", "--json")
    assert json.loads(result.stdout)["files"]["usable"] == 36
    assert call("data", "scan", data).exit_code == 2


def test_links_in_the_folder_of_a_table_are_followed(image_folder, tmp_path):
    lines = []
    for i, file in enumerate(sorted(image_folder.rglob("*.png"))):
        (tmp_path / f"{i}.png").symlink_to(file)
        lines.append(f"{i}.png,{file.parent.name}")
    assert scanned(table(tmp_path, *lines))["files"]["usable"] == 36


# Recipes


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch owned']", "!!python/name:os.system"]
)
def test_tags_of_python_are_not_obeyed(tmp_path, monkeypatch, tag):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {tag}\n")
    with pytest.raises(SpecError, match=r"is not YAML: the tag '!!python/"):
        read_recipe(recipe)
    with pytest.raises(SpecError, match="the value is not YAML"):
        merge({}, [f"head={tag}"])
    assert merge({}, [f"data={tag}"]) == {"data": tag}  # the text of it
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_aliases_that_stand_for_gigabytes_are_cut_in_the_message(tmp_path):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    (tmp_path / "laughs.yaml").write_text("\n".join([*levels, "data: *a11", "val: *a11"]))
    with pytest.raises(SpecError) as caught:
        make_spec(read_recipe(tmp_path / "laughs.yaml"))
    assert len(str(caught.value)) < 20_000


def test_nesting_without_end_is_refused(tmp_path):
    (tmp_path / "deep.yaml").write_text("[" * 5_000)
    with pytest.raises(SpecError, match="is not YAML"):
        read_recipe(tmp_path / "deep.yaml")
    with pytest.raises(SpecError, match="is not YAML") as caught:
        merge({}, ["head=" + "[" * 5_000])
    assert len(str(caught.value)) < 1000


# Models and weights


def test_a_pickle_among_the_weights_is_not_run(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(WeightsError):
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()


def small_model() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, keras.layers.Conv2D(4, 3, name="conv")(inputs))


def test_a_run_whose_model_holds_a_lambda_is_refused(tiny_run, image_folder, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs)).save(folder / "model.keras")
    reseal(folder)
    with pytest.raises(RunFolderError, match="model.keras .*holds a Lambda layer") as caught:
        tlkit.open_run(folder).predict(image_folder / "disc")
    assert str(caught.value).count(". ") <= 1


def rewritten(path: Path, change) -> Path:
    """Rewrite a .keras file; `change` gets the names and contents."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in change(members).items():
            archive.writestr(name, content)
    return path


@pytest.mark.filterwarnings("ignore:Skipping invalid path")
def test_members_of_a_model_file_never_leave_their_place(tmp_path):
    path = tmp_path / "in" / "slip.keras"
    path.parent.mkdir()
    small_model().save(path)
    evil = {"../../owned": b"x", "/tmp/tlkit-owned": b"x", "assets/../../../owned2": b"x"}
    rewritten(path, lambda members: {**members, **evil})
    before = outside(tmp_path, "")
    call("backbones", path)
    assert outside(tmp_path, "") == before
    assert not Path("/tmp/tlkit-owned").exists()


def test_a_zip_bomb_in_a_model_file_is_refused(tmp_path, monkeypatch):
    from keras.src.saving import saving_lib

    # Keras's own guard, at a size that a test can write: above 4 GiB and 100 times what is stored.
    monkeypatch.setattr(saving_lib, "_ZIP_MEMBER_BOMB_FLOOR_BYTES", 2**20)
    path = tmp_path / "bomb.keras"
    small_model().save(path)
    rewritten(path, lambda members: {**members, "model.weights.h5": bytes(2**24)})
    result = call("backbones", path)
    assert result.exit_code == 2
    assert "cannot be loaded: Not allowed: ZIP member 'model.weights.h5' declares" in result.stderr


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_that_point_into_other_files_are_refused(image_folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(10_000))
    weights = tmp_path / "evil.weights.h5"
    net = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None
    )
    net.save_weights(weights)
    with h5py.File(weights, "r+") as file:
        found = []
        file.visititems(lambda n, x: found.append(n) if isinstance(x, h5py.Dataset) else None)
        name = found[0]
        shape = file[name].shape
        del file[name]
        size = int(np.prod(shape)) * 4
        file.create_dataset(name, shape, "float32", external=[(str(secret), 0, size)])
    fields = {**FIELDS, "backbone": {**TINY["backbone"], "weights": str(weights)}}
    with pytest.raises((WeightsError, BackboneError), match="external") as caught:
        tlkit.train(image_folder, out=tmp_path / "run", **fields)
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "run").exists()
