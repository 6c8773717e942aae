"""What is seen while and after: lines of epochs, curves, history, packs; images in any form."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import CLASSES, SMALL, write_images
from PIL import Image

import tlkit
from tlkit.cli.main import main
from tlkit.commands import preview as preview_module
from tlkit.errors import RunFolderError
from tlkit.progress import LINE_EVERY, Progress
from tlkit.reporting import figures


def call(*arguments, code=0):
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def image(image_folder):
    return sorted(image_folder.rglob("*.png"))[0]


# Images in any form


def test_one_image_is_answered_alike_in_every_form(tiny_run, image):
    with Image.open(image) as opened:
        opened.load()
    forms = [image, str(image), image.read_bytes(), bytearray(image.read_bytes()), opened]
    forms += [np.asarray(opened.convert("RGB"))]
    rows = tiny_run.predict(forms)
    assert [row["error"] for row in rows] == [None] * len(forms)
    assert len({json.dumps(row["probabilities"]) for row in rows}) == 1
    assert [row["path"] for row in rows[2:]] == [
        *("bytes/000002", "bytes/000003", "image/000004", "array/000005"),
    ]
    for alone in (forms[2], opened):
        assert tiny_run.predict(alone)[0]["probabilities"] == rows[0]["probabilities"]


def test_images_of_pillow_are_turned_upright_and_bad_bytes_are_named(tiny_run, image):
    with Image.open(image) as opened:
        turned = opened.convert("CMYK").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees, clockwise, when it is shown
    file = io.BytesIO()
    turned.convert("RGB").save(file, "PNG", exif=exif)
    (upright, cmyk) = tiny_run.predict([Image.open(file), turned])
    assert upright["probabilities"] == tiny_run.predict(image)[0]["probabilities"]
    assert cmyk["error"] is None
    half = Image.open(io.BytesIO(image.read_bytes()[:200]))
    rows = tiny_run.predict([b"no image", half, image])
    assert [bool(row["error"]) for row in rows] == [True, True, False]
    assert "cannot be decoded: " in rows[1]["error"]


def test_a_pattern_that_no_shell_unfolded_is_unfolded(tiny_run, image_folder, tmp_path):
    shown = call("predict", tiny_run.folder, image_folder / "disc" / "*0[12].png", "--json").stdout
    assert [row["path"][-10:] for row in json.loads(shown)] == ["disc01.png", "disc02.png"]
    done = call("predict", tiny_run.folder, tmp_path / "*.jpg", code=2)
    assert "none of the 1 files could be used" in done.stderr
    shutil.copytree(image_folder, tmp_path / "new1")
    write_images(tmp_path / "x1", CLASSES, 1, seed=3)
    said = call("evaluate", tiny_run.folder, tmp_path / "x*").stdout
    assert f"{tmp_path / 'x*'}: read as {tmp_path / 'x1'}" in said
    done = call("evaluate", tiny_run.folder, tmp_path / "*1", code=2)
    assert "matches 2 paths. Allowed: one" in done.stderr
    assert "does not exist" in call("evaluate", tiny_run.folder, tmp_path / "y*", code=2).stderr


def test_the_model_file_of_a_run_answers_as_the_run(tiny_run, image, tmp_path):
    model = tiny_run.folder / "model.keras"
    shown = json.loads(call("predict", model, image, "--json").stdout)
    assert shown[0]["probabilities"] == tiny_run.predict(image)[0]["probabilities"]
    alone = shutil.copy(model, tmp_path / "model.keras")
    said = call("predict", alone, image, code=2).stderr
    assert "is not in the folder of its run, which says its labels" in said


# What a run says of itself


def test_history_has_a_column_for_each_of_the_log(tiny_run):
    history = tiny_run.history
    assert set(history["phase"]) == {"head"}
    assert history["epoch"] == list(range(1, len(history["epoch"]) + 1))
    assert all(isinstance(x, float) for x in history["val_loss"])
    assert history["learning_rate"] == [None] * len(history["epoch"])


def test_summary_says_data_model_and_result(tiny_run):
    text = tiny_run.summary()
    counts = tiny_run.metrics["examples"]
    assert f"{counts['train']:,} train, {counts['val']:,} val, {counts['test']:,} test" in text
    assert "MobileNet, 32 px, 3 outputs" in text
    assert f"test      {tiny_run.task.headline(tiny_run.metrics['test'])}" in text


def test_curves_mark_the_delivered_point_and_bear_the_name(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.append(figure))
    row = {"phase": "finetune", "learning_rate": "0.1", "l2": "", "seconds": "1"}
    losses = [3.0, 1.0, 2.0]
    log = [
        {**row, "epoch": str(i), "loss": "1", "accuracy": "0.5",
         "val_loss": f"{x:.6g}", "val_accuracy": f"{1 / x:.6g}"}
        for i, x in enumerate(losses, 1)
    ]  # fmt: skip
    figures.draw_curves(log, tmp_path / "c.png", "flowers-1", {"loss": 1.0, "accuracy": 1.0})
    (figure,) = drawn
    assert figure.get_suptitle() == "flowers-1"
    loss, accuracy = figure.axes
    assert (loss.get_ylabel(), accuracy.get_xlabel()) == ("loss", "epoch")
    for axes in (loss, accuracy):
        (mark,) = [line for line in axes.lines if line.get_label() == "chosen"]
        assert tuple(mark.get_xdata()) == (2.0,)
    figures.draw_curves(log, tmp_path / "c.png", "x", {"loss": 0.5, "accuracy": 0.1})
    assert not [line for line in drawn[1].axes[0].lines if line.get_label() == "chosen"]


def test_a_bar_says_where_it_is_in_a_file(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("tlkit.progress.time.monotonic", lambda: now[0])
    with Progress().bar("features", "images", 10) as advance:
        for _ in range(4):
            advance(2)
            now[0] += LINE_EVERY + 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["features  images 4/10", "features  images 6/10", "features  images 8/10"]


def test_each_epoch_is_a_line_in_a_file(capsys, image_folder, tmp_path):

    tlkit.train(image_folder, out=tmp_path / "run", freeze="last=1", epochs=2, **SMALL)
    said = capsys.readouterr().out
    for epoch in (1, 2):
        assert re.search(rf"^\w+ +epoch {epoch}/2  validation accuracy ", said, re.M)


# For others


def test_a_packed_run_answers_elsewhere(tiny_run, image, tmp_path):
    said = call("pack", tiny_run.folder, "-o", tmp_path / "run.zip").stdout
    assert "MiB, without checkpoints, logs and exports" in said
    with zipfile.ZipFile(tmp_path / "run.zip") as packed:
        names = packed.namelist()
        packed.extractall(tmp_path)
    assert not [name for name in names if "checkpoints" in name or "tensorboard" in name]
    opened = tlkit.open_run(tmp_path / tiny_run.folder.name)
    assert opened.predict(image) == tiny_run.predict(image)
    said = call("pack", tiny_run.folder, "-o", tmp_path / "run.zip", code=2).stderr
    assert "run.zip: is there already. Allowed: a new file" in said
    with pytest.raises(RunFolderError, match="cannot be written"):
        tiny_run.pack(tmp_path / "nowhere" / "run.zip")


def test_an_unfinished_run_is_not_packed(tiny_run, tmp_path):
    unfinished = shutil.copytree(tiny_run.folder, tmp_path / "run")
    (unfinished / "metrics.json").unlink()
    with pytest.raises(RunFolderError, match="is unfinished, and is packed without"):
        tlkit.open_run(unfinished).pack()


def test_python_scans_as_the_command_does(image_folder):
    found = tlkit.scan(image_folder, progress=False)
    assert found == json.loads(call("data", "scan", image_folder, "--json").stdout)
    assert "MobileNetV2" in tlkit.list_backbones()


def test_no_two_columns_of_a_preview_are_the_same(image_folder, tmp_path, monkeypatch):
    columns = []

    def noted(task, drawn, size, shown, draw=preview_module._draw):
        columns.extend(drawn)
        return draw(task, drawn, size, shown)

    monkeypatch.setattr(preview_module, "_draw", noted)
    options = {"augment": "light", "image_size": 32, "progress": False}
    tlkit.preview(image_folder, tmp_path / "p.png", images=2, draws=3, **options)
    images = [images.astype(float) for images, _ in columns]
    assert all(np.abs(a - b).mean() > 1 for i, a in enumerate(images) for b in images[:i])
