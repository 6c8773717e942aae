"""The structure of the package, read from its source: who imports whom, and who TensorFlow."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
from pathlib import Path

import tlkit

ROOT = Path(__file__).parents[1]
ORDER = (
    *("errors", "lettering", "progress", "places", "atomic"),
    *("backbones.families", "backbones.lite0", "backbones", "spec", "backbones.own"),
    *("planning", "compute"),
    *("data.pictures", "data", "data.readers", "data.scan", "tasks", "data.feed"),
    *("applications", "features", "solver", "runfolder", "training"),
    *("reporting", "evaluate", "export", "run", "serving"),
    *("commands", "commands.compare", "cli"),
)
"""Rooms (packages) and top modules: a module imports from its own room and those before it."""

ROOMS = 26
TOP_MODULES = 9
LONGEST = 320
"""Most rooms, modules at the top, and lines that a file may have."""

USES_TENSORFLOW = (
    *("data/", "export/", "cli/quiet.py", "commands/host.py", "runfolder/environment.py"),
    "reporting/gradients.py",
    *("compute/compilers.py", "compute/engines.py", "compute/setup.py"),
)
DRAWERS = {"util", "utils", "helper", "helpers", "common", "misc", "tools"}

FILES = sorted((ROOT / "tlkit").rglob("*.py"))
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in FILES
}
PACKAGES = {name for name, file in MODULES.items() if file.name == "__init__.py"}
INSIDE = sorted(set(MODULES) - {"tlkit", "tlkit.__main__"})


@functools.cache
def imported(file: Path) -> frozenset[str]:
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
    return frozenset(found)


def room(module: str) -> str:
    """Return the room of a module; a module at the top is one of its own."""
    inner = module if module in PACKAGES else module.rpartition(".")[0]
    return (module if inner == "tlkit" else inner).removeprefix("tlkit.")


def circles(arrows: dict[str, set[str]]) -> list[str] | None:
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_the_package_was_found():
    assert len(INSIDE) > 150
    assert room("tlkit.backbones.families.row") == "backbones.families"
    assert room("tlkit.data") == "data"
    assert room("tlkit.run") == "run"
    assert "tlkit.spec.checks" in imported(MODULES["tlkit.spec.run"])
    assert circles({"a": {"b"}, "b": {"a"}})
    assert {room(module) for module in INSIDE} == set(ORDER), "rooms and their order"
    assert len(PACKAGES) <= ROOMS
    top = [file for file in FILES if file.parent == ROOT / "tlkit"]
    assert len(top) <= TOP_MODULES


def test_modules_import_only_from_their_room_and_those_below():
    for module in INSIDE:
        own = ORDER.index(room(module))
        for other in imported(MODULES[module]):
            if other == "tlkit":
                place = room(module)
                assert place.startswith(("commands", "cli", "runfolder")), f"{module} imports tlkit"
            elif other.startswith("tlkit."):
                assert ORDER.index(room(other)) <= own, f"{module} imports {other}, above it"


def test_no_modules_import_each_other_in_a_circle():
    arrows = {m: {o for o in imported(MODULES[m]) if o in MODULES} for m in INSIDE}
    assert circles(arrows) is None


def test_a_public_name_is_hidden_by_no_module():
    """Importing `tlkit.compare` would put the module in the place of the function."""
    top = {file.stem for file in (ROOT / "tlkit").iterdir() if not file.name.startswith("_")}
    assert not top & set(tlkit.__all__)


def test_tensorflow_stays_where_it_belongs():
    for file in FILES:
        place = file.relative_to(ROOT / "tlkit").as_posix()
        uses = {name.partition(".")[0] for name in imported(file)} & {"tensorflow", "tf_keras"}
        assert not uses or place.startswith(USES_TENSORFLOW), f"{place} imports TensorFlow"


TASK_ASKED = re.compile(r"\btask\.name\b\s*(==|!=|in\b)|isinstance\([\w.]*task\b|\.task\s*(==|!=)")


def test_nothing_outside_tasks_asks_which_task_it_has():
    """What depends on a task, the task says: see `tasks.task.Task`."""
    asking = set()
    for file in FILES:
        place = file.relative_to(ROOT / "tlkit").as_posix()
        if not place.startswith("tasks/") and TASK_ASKED.search(file.read_text(encoding="utf-8")):
            asking.add(place)
    assert asking == set()
    assert TASK_ASKED.search('if task.name == "x"')
    assert TASK_ASKED.search("isinstance(self.task, Task)")
    assert TASK_ASKED.search('spec.task == "x"')


def test_files_are_short_say_what_they_are_for_and_are_named_after_it():
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= LONGEST, f"{file}: {len(text.splitlines())} lines"
        assert not DRAWERS & set(file.relative_to(ROOT / "tlkit").with_suffix("").parts), file
        assert ast.get_docstring(ast.parse(text)), file
