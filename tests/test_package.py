"""What is installed: the wheel's content, the version, and how little an import brings in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import tlkit

ROOT = Path(__file__).parents[1]
HEAVY = ("tensorflow", "keras", "pydantic", "matplotlib", "sklearn", "scipy", "jax", "torch")


def python(*arguments: str, **env: str) -> str:
    """Run Python in the checkout and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_by(code: str) -> set[str]:
    """Return the names of `HEAVY` that are loaded after `code`."""
    loaded = f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    return set(json.loads(python("-c", f"import json, sys\n{code}\n{loaded}").splitlines()[-1]))


def test_the_check_on_imports_sees_them():
    assert "pydantic" in imported_by("import tlkit.spec.run")


def test_import_tlkit_loads_nothing_heavy():
    assert imported_by("import tlkit; dir(tlkit); tlkit.TlkitError") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_commands_help_loads_nothing_heavy(arguments):
    code = f"""
from tlkit.cli.main import main
try:
    main({arguments!r})
except SystemExit as done:
    assert done.code == 0
"""
    assert imported_by(code) == set()


@pytest.mark.parametrize("command", ["list", "clear"])
def test_a_look_at_the_cache_loads_no_tensorflow(command, tmp_path):
    code = f"""
import os
os.environ["TLKIT_CACHE"] = {str(tmp_path)!r}
from tlkit.cli.main import main
try:
    main(["cache", {command!r}])
except SystemExit as done:
    assert done.code == 0
"""
    assert not imported_by(code) & {"tensorflow", "keras"}


@pytest.mark.parametrize("command", ["train", "predict", "data", "backbones", "schema"])
def test_the_help_of_a_command_loads_no_tensorflow(command):
    code = f"""
from tlkit.cli.main import main
try:
    main([{command!r}, "--help"])
except SystemExit as done:
    assert done.code == 0
"""
    assert not imported_by(code) & {"tensorflow", "keras"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """A wheel built from a copy, since building writes into the folder."""
    copy = tmp_path_factory.mktemp("source") / "tlkit"
    skipped = shutil.ignore_patterns(".git", "*.egg-info", "build", "dist", "__pycache__", ".*")
    shutil.copytree(ROOT, copy, ignore=skipped)
    out = copy.parent / "wheels"
    python(
        *("-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"),
        *("--outdir", str(out), str(copy)),
    )
    (file,) = out.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    for name in wheel.namelist():
        assert re.match(r"tlkit/|tlkit-[\d.]+\.dist-info/", name), name


def test_the_wheel_holds_every_module(wheel):
    files = {f.relative_to(ROOT).as_posix() for f in (ROOT / "tlkit").rglob("*.py")}
    assert files == {name for name in wheel.namelist() if name.endswith(".py")}
    others = {
        f.relative_to(ROOT).as_posix()
        for pattern in ("*.jinja", "serving/page/*")
        for f in (ROOT / "tlkit").rglob(pattern)
    }
    assert len(others) > 4
    assert others <= set(wheel.namelist())


def test_the_wheels_metadata(wheel):
    (folder,) = {n.split("/")[0] for n in wheel.namelist() if ".dist-info/" in n}
    text = wheel.read(f"{folder}/METADATA").decode()
    assert f"\nVersion: {tlkit.__version__}\n" in text
    assert "\nName: tlkit\n" in text
    for package in ("tensorflow", "keras", "click"):
        assert re.search(rf"^Requires-Dist: {package}\b", text, re.MULTILINE)
    assert "tlkit = tlkit.cli.main:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    assert any("LICENSE" in name for name in wheel.namelist())


def test_the_version_is_the_same_everywhere():
    said = f"tlkit, version {tlkit.__version__}\n"
    assert metadata.version("tlkit") == tlkit.__version__
    assert python("-m", "tlkit", "--version") == said
    assert python("cli.py", "--version") == said


def test_public_names_can_all_be_had():
    for name in tlkit.__all__:
        assert getattr(tlkit, name) is not None
    assert set(tlkit.__all__) == set(dir(tlkit))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tlkit' has no attribute 'trian'"):
        tlkit.trian  # noqa: B018


def test_a_relative_keras_home_survives_a_change_of_folder():
    code = "import os, tlkit; print(os.environ['KERAS_HOME'])"
    assert python("-c", code, KERAS_HOME="weights").strip() == str(ROOT / "weights")
