"""The examples in README.md, docs/ and docstrings: they run on small generated data, or fit.

Backbone and weights are replaced by the tiny ones of the tests, so that nothing is downloaded.
"""

from __future__ import annotations

import ast
import doctest
import functools
import importlib
import inspect
import json
import re
import runpy
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from statistics import mean

import click
import numpy as np
import pytest
from conftest import FULL
from PIL import Image

import tlkit
import tlkit.applications
from tlkit.cli.main import main
from tlkit.spec.parts import BackboneSpec
from tlkit.spec.run import RunSpec

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs"))
import tables  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(page: Path, language: str) -> list[str]:
    """Return the blocks of code of one language in a page."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [textwrap.dedent(block) for block in found]


README = blocks_of(ROOT / "README.md", "python")
GUIDE = [b for name in ("python", "serving") for b in blocks_of(ROOT / f"docs/{name}.md", "python")]
TYPED = sorted(
    {
        line.split("#")[0].strip()
        for page in PAGES
        for block in blocks_of(page, "bash")
        for line in block.splitlines()
        if line.startswith("tlkit ")
    }
)


def examples_of(file: Path) -> list[str]:
    """Return what stands below `Example:` in the docstrings of a module."""
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            for block in re.findall(r"^Example:\n((?:    .*\n?)+)", text, re.M):
                found.append(textwrap.dedent(block))
    return found


EXAMPLES = {
    (file.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."), i): block
    for file in sorted((ROOT / "tlkit").rglob("*.py"))
    for i, block in enumerate(examples_of(file))
}
SESSIONS = [
    file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for file in sorted((ROOT / "tlkit").rglob("*.py"))
    if re.search("^ *>>> ", file.read_text("utf-8"), re.M)
]
"""Modules whose docstrings have examples with what they give."""

BLOCKS = {name: block for name, block in EXAMPLES.items() if not block.startswith(">>>")}
RUN = ("tlkit.prepare_data", *(("tlkit.lr_find",) if FULL else ()))
"""What the examples show that are run, beside those of the guide; others take as long again."""


@pytest.fixture
def place(image_folder, tiny_weights, tiny_run, tmp_path, monkeypatch):
    """A folder with the files that examples speak of; what they train is tiny."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    for name in ("flowers", "more-flowers"):
        shutil.copytree(image_folder, name)
    shutil.copytree(tiny_run.folder, "runs/first")
    one = Image.open(next(image_folder.rglob("*.png")))
    for name in ("a.jpg", "b.png", "rose.jpg"):
        one.convert("RGB").save(name)
    tiny = {
        "backbone": BackboneSpec(name="MobileNet", alpha=0.25, weights=tiny_weights),
        "image_size": 32,
        "engine": "keras",
    }
    for name in ("train", "lr_find"):
        module = importlib.import_module(f"tlkit.commands.{name}")

        def spec_of(*arguments, real=module.spec_of, **options):
            spec, arrays = real(*arguments, **options)
            return spec.model_copy(update=tiny), arrays

        monkeypatch.setattr(module, "spec_of", spec_of)
    dropin = functools.partial(
        tlkit.applications.MobileNetV2, weights=None, input_shape=(32, 32, 3)
    )
    monkeypatch.setattr(tlkit.applications, "MobileNetV2", dropin)
    return tmp_path


def names(image_folder: Path) -> dict[str, object]:
    """Return what examples take for given: arrays, and a data set of them."""
    import tensorflow as tf

    files = sorted(image_folder.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(f).resize((32, 32)).convert("RGB")) for f in files])
    labels = np.array([sorted({f.parent.name for f in files}).index(f.parent.name) for f in files])
    dataset = tf.data.Dataset.from_tensor_slices((images[::6], labels[::6])).batch(6)
    return {"tlkit": tlkit, "images": images, "labels": labels, "dataset": dataset}


def test_the_examples_were_found():
    assert len(README) == len(GUIDE) == 3
    assert len(TYPED) >= 20
    assert len(SESSIONS) >= 8
    assert len(BLOCKS) >= 5


@pytest.mark.filterwarnings("ignore:.*compiled for another freeze plan")  # as the guide says
def test_what_the_guide_shows_in_python_runs(place, image_folder):
    known = names(image_folder)
    for block in GUIDE:
        exec(compile(block, "docs", "exec"), known)
    assert known["run"].metrics["test"]["accuracy"] > 0.5
    assert (Path("seen.png").stat().st_size, Path("measured/metrics.json").exists()) > (1000, True)
    assert known["answer"]["label"][0].numpy().decode() in known["run"].labels


@pytest.mark.parametrize("name", BLOCKS, ids=lambda name: name[0])
def test_an_example_without_its_output_runs_or_fits(name, place):
    block = BLOCKS[name]
    check_calls(block)
    if any(f"{what}(" in block for what in RUN):
        exec(compile(block, name[0], "exec"), {"tlkit": tlkit})


@pytest.mark.parametrize("block", GUIDE, ids=["python", "drop-in", "serving"])
def test_calls_of_the_guide_fit_what_is_called(block):
    check_calls(block)


def test_readme_shows_what_the_guide_shows():
    shown = {line.split("#")[0].strip() for block in GUIDE for line in block.splitlines()}
    for block in README:
        assert {line.split("#")[0].strip() for line in block.splitlines()} <= shown


@pytest.mark.parametrize("typed", TYPED)
def test_commands_of_the_pages_are_taken(typed):
    command, words = main, shlex.split(typed)[1:]
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    command.make_parser(click.Context(command)).parse_args(words)


def test_images_of_the_guide_are_those_that_the_script_draws():
    draw = runpy.run_path(str(ROOT / "docs" / "draw.py"))
    assert (ROOT / "docs" / "images" / "regimes.svg").read_text("utf-8") == draw["regimes"]()


def test_tables_show_the_figures_of_the_results():
    results = json.loads((ROOT / "benchmarks" / "results.json").read_text("utf-8"))
    for page in PAGES:
        text = page.read_text("utf-8")
        assert tables.written(text, results) == text, page.name
    for row in results["accuracy"]["rows"]:
        if recipe := row.get("recipe"):
            said = (ROOT / "recipes" / f"{recipe}.yaml").read_text("utf-8")
            assert f"test accuracy {mean(row['seeds']):.1f}%" in said, recipe
    for row in results["boxes"]["rows"]:
        if recipe := row.get("recipe"):
            said = (ROOT / "recipes" / f"{recipe}.yaml").read_text("utf-8")
            assert f"mean IoU {mean(row['mean_iou']):.3f}" in said, recipe
    for row in results["detection"]["rows"]:
        if recipe := row.get("recipe"):
            said = (ROOT / "recipes" / f"{recipe}.yaml").read_text("utf-8")
            assert f"AP50 {mean(row['ap50']):.3f}, AP {mean(row['ap']):.3f}" in said, recipe


def check_calls(block: str) -> None:
    """Check that functions of tlkit that a block calls exist and take what it passes."""
    for call in ast.walk(ast.parse(block)):
        if not (isinstance(call, ast.Call) and re.fullmatch(r"tlkit\.\w+", ast.unparse(call.func))):
            continue
        function = getattr(tlkit, call.func.attr)
        passed = {word.arg: None for word in call.keywords}
        bound = inspect.signature(function).bind(*call.args, **passed)
        assert set(bound.arguments.get("fields", ())) <= set(RunSpec.model_fields), call.lineno


class Shown(doctest.OutputChecker):
    """Holds against what an example shows; one that shows nothing has to run, whatever it gives."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


@pytest.mark.parametrize("name", SESSIONS)
def test_an_example_gives_what_it_shows(name, place):
    module = importlib.import_module(name)
    given = {"image": np.full((40, 48, 3), 90, np.uint8), "seed": np.array([1, 2], np.int32)}
    runner = doctest.DocTestRunner(Shown())
    for example in doctest.DocTestFinder(recurse=True).find(module, extraglobs=given):
        said: list[str] = []
        runner.run(example, out=said.append)
        assert not runner.failures, "".join(said)
    assert runner.tries
