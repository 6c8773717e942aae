"""The structure of the package, read from its source: who imports whom, and who TensorFlow."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]
ORDER = (
    "errors",
    "places",
    "plain_yaml",
    "backbones.row",
    "backbones.families",
    "backbones.catalog",  # a table without code; the spec names its rows
    "idle",
    "consistency",  # asked by the spec about itself
    "parts",
    "tables",
    "spec",
    "recipe",
    "candidates",
    "rules",
    "progress",
    "lettering",
    "memory",
    "atomic",
    "data",
    "backbones",
    "heads",
    "freezing",
    "compilers",
    "engines",
    "layers",
    "applications",
    "training",
    "evaluate",
    "export",
    "opened",
    "host",
    "asked",
    "environment",  # beside run: little else imports it
    "assembly",
    "picture_grid",
    "estimate",
    "planning",
    "outcome",
    "interruption",
    "run",
    "lrfind",
    "comparison",
    "probing",
    "selection",
    "serve",
    "cli",
)
"""A module imports only from those before it; inside one of them everything is free."""

USES_TENSORFLOW = (
    "data/",
    "export/",
    "compilers.py",
    "engines.py",
    "environment.py",
    "host.py",
    "cli/quiet.py",
)
DRAWERS = {"util", "utils", "helper", "helpers", "common", "misc", "tools"}
LONGEST = 330
"""Lines that a file may have."""

FILES = sorted((ROOT / "tlkit").rglob("*.py"))
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in FILES
}
IN_LAYERS = sorted(set(MODULES) - {"tlkit", "tlkit.__main__"})


@functools.cache
def imported(file: Path) -> set[str]:
    """Return the full names of all modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def layer(module: str) -> str | None:
    """Return the entry of `ORDER` that a module belongs to, the longest that fits."""
    name = module.removeprefix("tlkit.")
    fits = [entry for entry in ORDER if f"{name}.".startswith(f"{entry}.")]
    return max(fits, key=len, default=None)


def test_the_package_was_found():
    assert len(IN_LAYERS) > 30
    assert layer("tlkit.backbones.catalog") == "backbones.catalog"
    assert layer("tlkit.backbones.build") == "backbones"
    assert layer("tlkit.data") == "data"
    assert "tlkit.consistency" in imported(MODULES["tlkit.spec"])
    assert "tlkit.rules" in imported(MODULES["tlkit.training.phases"])


def test_every_module_has_its_place():
    assert not [module for module in IN_LAYERS if layer(module) is None], "stand nowhere in ORDER"


def test_modules_import_only_from_above():
    for module in IN_LAYERS:
        own = ORDER.index(layer(module))
        for other in imported(MODULES[module]):
            if other == "tlkit":
                assert layer(module) in ("run", "serve", "cli"), f"{module} imports tlkit whole"
            elif other.startswith("tlkit."):
                below = ORDER.index(layer(other)) > own
                assert not below, f"{module} imports {other}, which is below it"


def test_only_the_conductor_sets_the_environment():
    conductors = ("environment", "assembly", "run", "lrfind", "selection")
    for module in IN_LAYERS:
        if layer(module) not in conductors:
            assert "tlkit.environment" not in imported(MODULES[module]), module


def test_tensorflow_stays_where_it_belongs():
    for file in FILES:
        place = file.relative_to(ROOT / "tlkit").as_posix()
        uses = {name.partition(".")[0] for name in imported(file)} & {"tensorflow", "tf_keras"}
        assert not uses or place.startswith(USES_TENSORFLOW), f"{place} imports TensorFlow"


def test_files_are_short_and_named_after_what_is_in_them():
    for file in FILES:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        assert lines <= LONGEST, f"{file} has {lines} lines"
        assert not DRAWERS & set(file.relative_to(ROOT / "tlkit").with_suffix("").parts), file


def test_every_module_says_what_it_is_for():
    for module, file in MODULES.items():
        assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), module
