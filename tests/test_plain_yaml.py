"""What was typed is what an option gets: text as text, decimal numbers, no surprise of YAML 1.1."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tlkit.errors import SpecError
from tlkit.spec.read import LARGEST, make_spec, merge, read_recipe
from tlkit.spec.run import RunSpec

WORDS = (
    *("2024", "2024-01-01", "2024-13-01", "2001-12-14t21:59:43.10-05:00", "on", "no", "y", "true"),
    *("1e3", "010", "0x1F", "1:30", "1_000", ".inf", "=", "<<", "null-image", "5", "-1", "日本"),
)
"""Names of folders and columns that YAML 1.1 makes something else of."""


def recipe(folder: Path, text: str | bytes) -> dict:
    file = folder / "recipe.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_recipe(file)


def refused(call, *arguments) -> str:
    with pytest.raises(SpecError) as caught:
        call(*arguments)
    text = str(caught.value)
    assert text.isprintable()
    return text


@pytest.mark.parametrize("word", WORDS)
def test_an_option_for_text_gets_what_was_typed(word, tmp_path):
    by_setting = make_spec(merge({}, [f"out={word}", f"table.label={word}", f"data={word}"]))
    by_recipe = make_spec(recipe(tmp_path, f"out: {word}\ndata: {word}\ntable: {{label: {word}}}"))
    for spec in (by_setting, by_recipe):
        assert (spec.out, spec.data, spec.table.label) == (word, word, word)


@pytest.mark.parametrize(
    "word", [",", "#", ":", "a: b", "[x", "*", "&", "%", "it's", '5" wide', "!"]
)
def test_a_setting_for_text_need_not_be_yaml(word):
    assert make_spec(merge({}, [f"table.label={word}"])).table.label == word


def test_a_separator_may_be_a_blank():
    assert make_spec(merge({"task": "multilabel"}, ["table.separator= "])).table.separator == " "


def test_quotes_around_the_whole_are_none_of_the_text():
    assert make_spec(merge({}, ["table.label='on'", 'out="a b"'])).table.label == "on"


def test_a_list_of_names_keeps_them(tmp_path):
    names = ["y", "n", "on", "2024-01-01", "1.0", "null"]
    listed = f"[{', '.join(names)}]"
    assert make_spec(merge({}, [f"table.targets={listed}"])).table.targets == names
    assert make_spec(recipe(tmp_path, f"table: {{targets: {listed}}}")).table.targets == names


@pytest.mark.parametrize("text", ["", "null", "~", " "])
def test_nothing_is_none_where_an_option_may_be_empty(text, tmp_path):
    assert make_spec(merge({"out": "x"}, [f"out={text}"])).out is None
    assert make_spec(merge({"epochs": 3}, [f"epochs={text}"])).epochs is None
    assert make_spec(recipe(tmp_path, f"out: {text}\nepochs: {text}")).out is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("seed", "010", 10),
        ("seed", "4294967295", 2**32 - 1),
        ("seed", '"7"', 7),
        ("epochs", "+5", 5),
        ("batch_size", "1_000", 1000),
        ("cache_size", "1e3", 1000.0),
        ("cache_size", ".5", 0.5),
        ("test", "-0.0", 0.0),
        ("strict", "yes", True),
        ("mirror", "off", False),
        ("budget", "2m", 120.0),
    ],
)
def test_a_number_is_what_it_looks_like(name, text, value, tmp_path):
    for fields in (merge({}, [f"{name}={text}"]), recipe(tmp_path, f"{name}: {text}")):
        assert getattr(make_spec(fields), name) == value


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("seed=4294967296", "seed: should be less than 4294967296. Received: 4294967296"),
        ("seed=0x10", "seed: should be a valid integer"),
        ("seed=" + "9" * 5000, "seed: "),
        ("epochs=1:30", "epochs: should be a valid integer"),
        ("budget=1:30", "budget: is a time. Allowed: seconds, or a number with s, m or h"),
        ("budget=1e400", "budget: should be a finite number. Received: inf"),
        ("budget=infh", "budget: should be a finite number"),
        ("cache_size=.inf", "cache_size: should be a finite number. Received: inf"),
        ("cache_size=1e308", "cache_size: should be less than or equal to 1000000"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate: should be a finite number"),
        ("mixup=.inf", "mixup: should be a finite number"),
        (f"batch_size={10**30}", "batch_size: "),
        (f"image_size={10**6}", "image_size: should be less than or equal to 16384"),
        (f"head.hidden=[{10**9}]", "head.hidden.0: should be less than or equal to 65536"),
        ("val=inf", "val: should be a share or a folder. Received: inf"),
        ("val=nan", "val: should be a share or a folder. Received: nan"),
        ("val=2024", "Received: 2024 (a folder of that name is written ./2024)"),
        ("val=-0.0", "val: is a share of the data or a folder. Allowed: above 0"),
        ("val=", "val: should be a share or a folder. Received: ''"),
        ("backbone.weights=", "backbone.weights: is empty. Allowed: a path. Received: ''"),
        ("out=a\0b", r"out: holds a NUL character. Received: 'a\x00b'"),
        ("table.label=a\ud800b", "table.label: holds half a character"),
        ("=x", "--set: write key=value, such as head.dropout=0.5. Received: '=x'"),
        ("a..b=1", "--set: write key=value, such as head.dropout=0.5. Received: 'a..b=1'"),
        (".a=1", "--set: write key=value"),
        ("backbone.name.x=1", "backbone.name: should be a valid string. Received: {"),
        ("a\nb=1", r"a\nb: unknown option"),
        ("k" * 999 + "=1", "k...: unknown option"),
        ("epochs=!!binary aGk=", "--set epochs: the value is not YAML: the tag '!!binary' stands"),
        ("epochs=!!set {a}", "the tag '!!set' stands for nothing here in line 1, column 1"),
        ("epochs=!mine 3", "the tag '!mine' stands for nothing here"),
        ("head.hidden=&a [*a]", "an anchor holds itself in line 1"),
        ("head.hidden=" + "[" * 5000, "stand too deep in each other"),
        ("head={dropout: 0.1, dropout: 0.2}", "'dropout' stands twice in line 1, column 16"),
        ("head={[1]: 2}", "a key is a list or a mapping"),
        ("head={<<: 3}", "a merge key (<<) takes mappings"),
    ],
)
def test_what_is_not_right_is_refused_in_a_line(setting, words):
    assert words in refused(lambda: make_spec(merge({}, [setting])))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "a" * (LARGEST + 1),
            "is too large for a recipe. Allowed: 1,048,576 bytes. Received: more",
        ),
        ("seed: 1\nseed: 2\n", "is not YAML: 'seed' stands twice in line 2, column 1"),
        ("a: 1\n---\nb: 2\n", "is not YAML: expected a single document"),
        ("&a\nhead: *a\n", "an anchor holds itself"),
        ("x: !!python/name:os.system\n", "the tag '!!python/name:os.system' stands for nothing"),
        (b"seed: \xe9\n", "is not YAML"),
        (b"\x00\x01", "is not YAML"),
        ("3", "must be a mapping of options. Received: int"),
    ],
)
def test_a_recipe_that_is_none(content, words, tmp_path):
    assert words in refused(recipe, tmp_path, content)


def test_a_recipe_that_is_a_folder_or_has_a_strange_name(tmp_path):
    assert "cannot be read: Is a directory" in refused(read_recipe, tmp_path)
    assert "cannot be read: embedded null byte" in refused(read_recipe, Path("a\0b"))
    assert "cannot be read: File name too long" in refused(read_recipe, tmp_path / ("x" * 300))
    assert r"recipe a\nb: cannot be read: No such file" in refused(read_recipe, Path("a\nb"))


def test_a_recipe_may_use_anchors_and_merge_keys(tmp_path):
    text = "optimizer: &o {name: adam, patience: 3}\n<<: {seed: 3, epochs: 2}\nepochs: 4\n"
    spec = make_spec(recipe(tmp_path, text))
    assert (spec.seed, spec.epochs, spec.optimizer.patience) == (3, 4, 3)
    listed = "head: {<<: [{dropout: 0.1}, {dropout: 0.3, pooling: max}]}"
    head = make_spec(recipe(tmp_path, listed)).head
    assert (head.dropout, head.pooling) == (0.1, "max")


def test_few_lines_that_stand_for_gigabytes_are_read_at_once(tmp_path):
    lines = ["x0: &x0 [a, a]"]
    lines += [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 40)]
    with pytest.raises(SpecError, match="x39: unknown option") as caught:
        make_spec(recipe(tmp_path, "\n".join(lines)))
    assert len(str(caught.value)) < 50_000


def test_a_recipe_of_windows_is_read(tmp_path):
    assert recipe(tmp_path, "\ufeffseed: 3\r\n") == {"seed": 3}
    assert recipe(tmp_path, "seed: 3\r\n".encode("utf-16")) == {"seed": 3}


@pytest.mark.parametrize("name", ["out", "data", "test", "backbone.weights"])
def test_the_home_folder_is_meant_by_a_tilde(name, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    spec = make_spec(merge({}, [f"{name}=~/x"]))
    owner, _, last = name.rpartition(".")
    assert getattr(getattr(spec, owner) if owner else spec, last) == "/home/ann/x"
    assert make_spec({"out": "a/~/x"}).out == "a/~/x"


@pytest.mark.parametrize(
    "text", ["a\x85b", "a\u2028b", "a\nb", "\ufeffa", "gr\udcc3", "😀", "a\tb"]
)
def test_strange_text_comes_back_from_a_runs_spec(text, tmp_path):
    spec = make_spec({"table": {"label": text}})
    written = spec.to_yaml()
    assert make_spec(yaml.safe_load(written)) == spec
    assert make_spec(recipe(tmp_path, written)) == spec
    assert RunSpec.model_validate(yaml.safe_load(written)) == spec


def test_paths_that_are_not_utf8_are_taken():
    path = "gr\udcfcn"
    spec = make_spec({"data": path, "out": path, "test": path, "backbone": {"weights": path}})
    assert (spec.data, spec.out, spec.test, spec.backbone.weights) == (path,) * 4
    assert make_spec(yaml.safe_load(spec.to_yaml())) == spec


@pytest.mark.parametrize("fields", [[], None, "text", 3])
def test_a_spec_is_a_mapping(fields):
    text = refused(make_spec, fields, "run/spec.yaml")
    assert text.startswith("run/spec.yaml: must be a mapping of options. Received: ")


def test_a_number_too_long_to_write_is_refused():
    assert "seed: " in refused(make_spec, {"seed": 10**5000})
    assert "val: should be a share" in refused(make_spec, {"val": 10**400})
