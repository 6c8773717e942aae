"""Specs and recipes at random: each gives a `RunSpec`, or one `SpecError`; never a traceback.

Run by hand for many (python tests/fuzz_specs.py --count 5000); test_fuzz_specs.py runs some.
"""

from __future__ import annotations

import argparse
import collections
import functools
import random
import tempfile
import traceback
import typing
from pathlib import Path

import yaml
from pydantic import BaseModel

from tlkit.errors import TlkitError
from tlkit.places import check_free
from tlkit.runfolder.folder import next_folder
from tlkit.spec.checks import find_problems
from tlkit.spec.plain_yaml import part_of
from tlkit.spec.read import make_spec, merge, read_recipe
from tlkit.spec.run import RunSpec

VALUES = (
    # What YAML 1.1 takes for something else than it looks like.
    *("2024-13-01", "2024-01-01", "2001-12-14t21:59:43.10-05:00", "1:30", "190:20:30", "010"),
    *("0x1F", "0b11", "0o7", "1_000", "1e3", "1e400", "-1e400", ".inf", "-.inf", ".nan", "nan"),
    *("yes", "no", "on", "off", "y", "n", "null", "~", "", " ", "=", "<<", "-", "?", ":", "%"),
    *("!!binary aGk=", "!!binary '%%%'", "!!set {a, b}", "!!timestamp 2024-01-01", "!!int x"),
    *("!!timestamp nope", "!!float x", "!!bool maybe", "!!null x", "!!omap [a: 1]", "!!pairs [a]"),
    *("!!python/object:os.system x", "!mine 3", "!!str 5", "!!seq {a: 1}", "!!map [1]"),
    *("&a [*a]", "&a {b: *a}", "*nowhere", "{<<: {a: 1}}", "{<<: 3}", "{<<: [1]}", "&a {<<: *a}"),
    # Numbers at and beyond every edge.
    *("0", "-0", "-0.0", "1", "-1", "2", "0.5", "1.0", "5", "4294967295", "4294967296"),
    *("9223372036854775808", f"{10**30}", "9" * 5000, "1" * 310 + ".0", "5e-324", "1e308"),
    *("0.1", "0.999", "32", "224", "3.7", "90s", "2m", "infh", "nans", "1e400h", "-2m", "s"),
    # Text that is none, or too much.
    *("a: b", "a: b: c", "[", "{", "[1, 2", "{a", "#", "'", '"', "'a'", '"\\x00"', '"\\ud800"'),
    *("|", ">", "@", "`", "a\tb", "a\nb", "\x1b[31m", "\u202e", "\udce9", "\ud800", "\0", "😀"),
    *('"\\udce9"', "'\udce9'", "[\udce9]", '"\\uD83D\\uDE00"', "-.5", "+1", "1.", ".", "1_0.5"),
    *("日本", "\x85", "\u2028", "x" * 300, "x" * 5000, "/", "..", "~/x", "~nobody/x", "a/../b"),
    # Lists and mappings.
    *("[]", "[1]", "[y, n]", "[[1]]", "{}", "{a: 1}", "{1: 2}", "{[1]: 2}", "{null: 1}", "[a, a]"),
    *("{a: 1, a: 2}", "[0]", "[256, 128]", "[1e3]", f"[{10**30}]", "[null]", "{name: {name: 1}}"),
    # What is right somewhere.
    *("auto", "none", "all", "small", "medium", "large", "adam", "sgd", "cosine", "plateau", "fit"),
    *("lbfgs", "true", "false", "until=block_3", "last=2", "re=.*", "MobileNet", "ResNet50"),
    *("a.keras", "m:f", "own", "imagenet", "multilabel", "regression", "float16", "cpu", "gpu:0,1"),
)  # fmt: skip
WHOLE = (
    *("", "- a\n- b\n", "just words", "3", "null", "---\na: 1\n---\nb: 2\n", "&a\nhead: *a\n"),
    *(
        "&a {head: *a}",
        "!!set {a}",
        "!!python/name:os.system",
        "? [a]\n: b\n",
        "%YAML 9.9\n---\n{}",
    ),
    *("head: &h {dropout: 0.1}\noptimizer: {<<: *h}\n", "a" * 100_000, "[" * 5000, "{a: " * 5000),
    *(
        "seed: 1\nseed: 2\n",
        "\ufeffseed: 1\n",
        "seed:\t1\n",
        "<<: {seed: 3}\n",
        "<<: [{seed: 3}]\n",
    ),
    "x0: &x0 [a,a]\n" + "".join(f"x{i}: &x{i} [{f'*x{i - 1},' * 9}]\n" for i in range(1, 30)),
    "x0: &x0 {a: 1}\n"
    + "".join(f"x{i}: &x{i} {{<<: [{f'*x{i - 1},' * 9}]}}\n" for i in range(1, 9)),
)
KEYS = (
    "",
    " ",
    ".",
    "a..b",
    ".a",
    "a.",
    "backbone.name.x",
    "1",
    "null",
    "yes",
    "é",
    "a\nb",
    "k" * 999,
)


def options(model: type[BaseModel] = RunSpec, before: str = "") -> list[str]:
    """Return the name of every option, with dots."""
    found = []
    for name, field in model.model_fields.items():
        found.append(f"{before}{name}")
        kinds = (field.annotation, *typing.get_args(field.annotation))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += options(kind, f"{before}{name}.")
    return found


OPTIONS = options()
TEXTS = ("table.image", "table.label", "data", "out", "val", "test", "freeze", "backbone.weights")
"""Options that nearly any text is right for."""


def draw(rng: random.Random) -> tuple[str, typing.Any]:
    """Return one case: `settings`, a list of texts for --set; or `recipe`, a file's bytes."""
    if rng.random() < 0.6:
        count = rng.choice((1, 1, 2, 3, 5))
        settings = ["=".join(_pair(rng)) for _ in range(count)]
        if rng.random() < 0.03:
            settings.append(rng.choice(("epochs", "=x", "", "=", "a")))
        return "settings", settings
    return "recipe", _recipe(rng)


def _pair(rng: random.Random) -> tuple[str, str]:
    """Return a key and a value: anything for anything, or what is likely to be right."""
    if rng.random() < 0.05:
        return rng.choice(KEYS), _value(rng)
    if rng.random() < 0.5:
        return rng.choice(OPTIONS), _value(rng)
    if rng.random() < 0.3:
        return rng.choice(TEXTS), _value(rng)
    key = rng.choice([name for name in OPTIONS if name not in ("table", "head")])
    kinds = functools.reduce(part_of, key.split("."), RunSpec)
    words = [w for part in (kinds, *typing.get_args(kinds)) for w in typing.get_args(part)]
    words = [word for word in words if isinstance(word, str)]
    return key, rng.choice(words or ["true", "false", "1", "2", "0.5", "0.1", "64", "null", "[8]"])


def _value(rng: random.Random) -> str:
    if rng.random() < 0.9:
        return rng.choice(VALUES)
    return "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x3000)))) for _ in "1234")


def _recipe(rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return rng.choice(WHOLE).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        return rng.randbytes(rng.choice((3, 50, 400)))
    lines, parts = [], collections.defaultdict(list)
    for key, value in dict(_pair(rng) for _ in range(rng.choice((1, 2, 4)))).items():
        outer, _, name = key.rpartition(".")
        parts[outer].append(f"{name}: {value}")
    for outer, inner in parts.items():
        lines += [f"{outer}:", *(f"  {line}" for line in inner)] if outer else inner
    content = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    if rng.random() < 0.1:
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def attempt(kind: str, case: typing.Any, folder: Path) -> str:
    """Do what a command does before it reads data; return `spec` or `refused`.

    Raises:
        AssertionError: a message of several lines a problem, or a spec that does not come back.
        Exception: whatever else: a traceback in a person's face.
    """
    try:
        if kind == "settings":
            fields = merge({}, case)
        else:
            recipe = folder / "recipe.yaml"
            recipe.write_bytes(case)
            fields = read_recipe(recipe)
        spec = make_spec(fields)
    except TlkitError as error:
        _check_message(str(error))
        return "refused"
    assert find_problems(spec) == []
    text = spec.to_yaml()
    text.encode("utf-8")
    (folder / "spec.yaml").write_text(text, encoding="utf-8")
    assert make_spec(read_recipe(folder / "spec.yaml")) == spec, text
    assert make_spec(yaml.safe_load(text)) == spec, text
    try:
        if spec.out:
            check_free(Path(folder, spec.out))
        next_folder(spec.data or "data", spec.backbone.label, folder)
        for name in ("data", "val", "test"):
            if isinstance(value := getattr(spec, name), str):
                Path(value).resolve()
        Path(spec.backbone.weights).resolve()
        _ = spec.size if not spec.backbone.given else 0, int(spec.cache_size * 2**30)
    except TlkitError as error:
        _check_message(str(error))
    return "spec"


def _check_message(text: str) -> None:
    head, *rest = text.split("\n")
    assert "Traceback" not in text
    assert len(text) < 20_000, len(text)
    assert all(line.isprintable() for line in (head, *rest)), text
    assert all(line.startswith("  ") for line in rest), text
    if rest:
        assert head.endswith(f"{len(rest)} problems:"), text


def fuzz(count: int, seed: int = 0) -> tuple[collections.Counter, list[str]]:
    """Return how often each answer came, and what went wrong."""
    rng, answers, wrong = random.Random(seed), collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            kind, case = draw(rng)
            try:
                answers[attempt(kind, case, Path(folder))] += 1
            except Exception as error:
                answers["traceback"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                wrong.append(
                    f"{type(error).__name__} at {where}: {str(error)[:200]!r}, {case!r:.200}"
                )
    return answers, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    answers, wrong = fuzz(asked.count, asked.seed)
    print(dict(answers))
    for line, times in collections.Counter(line.split(":", 2)[0] for line in wrong).most_common():
        print(f"{times:6} {line}")
    print("\n".join(wrong[:25]).encode("ascii", "backslashreplace").decode())


if __name__ == "__main__":
    main()
