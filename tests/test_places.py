"""What a command writes replaces nothing but what an earlier call of it wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import write_images
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tlkit.cli.main import main
from tlkit.errors import SpecError
from tlkit.places import DRAWN, check_csv, check_png


def call(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def draw(path: Path, software: str | None) -> None:
    made = PngInfo()
    if software is not None:
        made.add_text("Software", software)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, "PNG", pnginfo=made)


def link(path: Path) -> None:
    draw(path.with_name("own.png"), None)
    path.symlink_to("own.png")


OTHERS = {
    "an image": lambda path: draw(path, None),
    "of another program": lambda path: draw(path, "Matplotlib version 3.10"),
    "of a like name": lambda path: draw(path, "tlkit2"),
    "a jpeg": lambda path: Image.new("RGB", (8, 8)).save(path, "JPEG"),
    "text": lambda path: path.write_text("id,truth\n"),
    "cut": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "a link": link,
}
OWN = {
    "new": lambda path: None,
    "empty": lambda path: path.touch(),
    "drawn": lambda path: draw(path, DRAWN),
    "a plot": lambda path: Figure().savefig(path, metadata={"Software": DRAWN}),
    "a link to nothing": lambda path: path.symlink_to("absent.png"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_drawing_replaces_no_file_that_is_none(tmp_path, kind):
    path = tmp_path / "x.png"
    OTHERS[kind](path)
    with pytest.raises(SpecError, match="--sheet .*x.png: is there, and tlkit did not draw it"):
        check_png(path, "--sheet")


@pytest.mark.parametrize("kind", OWN)
def test_a_drawing_may_be_drawn_again(tmp_path, kind):
    path = tmp_path / "x.png"
    OWN[kind](path)
    check_png(path)


@pytest.mark.parametrize("name", ["x.jpg", "none/x.png", "folder.png", ".png", "f.txt/x.png", ""])
def test_a_drawing_is_a_png_in_a_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("f.txt").touch()
    with pytest.raises(SpecError, match="--out: must be a PNG file in a folder that exists"):
        check_png(Path(name))


@pytest.mark.parametrize("content", ["image,label\n", "x", "\ufeffid,truth\n", "\x89PNG", "ID,t"])
def test_a_table_replaces_no_file_that_is_none_of_tlkits(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SpecError, match="--csv .*t.csv: is there, and tlkit did not write it"):
        check_csv(path, tmp_path / "run")


@pytest.mark.parametrize("content", ["", "id,truth,prediction\n", "path,label\n", None])
def test_a_table_may_be_written_again(tmp_path, content):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_text(content)
    check_csv(path, tmp_path / "run")


@pytest.mark.parametrize(
    "command",
    [
        ["data", "scan", "data", "--sheet"],
        ["data", "preview", "data", "--out"],
        ["lr-find", "data", "--regime", "medium", "--out"],
        ["evaluate", "RUN", "data", "--csv"],
        ["predict", "RUN", "data", "--csv"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_no_image_of_the_data_is_replaced(tmp_path, monkeypatch, tiny_run, command):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data", count=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    words = [str(tiny_run.folder) if word == "RUN" else word for word in command]
    done = call(*words, "data/disc/disc00.png")
    assert done.exit_code == 2, done.output
    assert "disc00.png: is there, and tlkit did not " in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before


def test_what_was_drawn_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data", count=2)
    for _ in range(2):
        assert call("data", "scan", "data", "--sheet", "odd.png").exit_code == 0
        seen = ["data", "preview", "data", "--set", "image_size=32", "--draws=1", "--images=1"]
        assert call(*seen).exit_code == 0
    # One is as good as the other.
    assert call("data", "scan", "data", "--sheet", "preview.png").exit_code == 0
