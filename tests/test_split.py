"""The split: properties that hold for every data set, and the cases that go wrong elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlkit.data.scan import scan
from tlkit.data.sources import Example, open_source
from tlkit.data.split import Split, split
from tlkit.errors import DataError
from tlkit.progress import Progress

SHARES = {"val": 0.15, "test": 0.15}
PARTS = ("train", "val", "test")


def example(id_: str, label: str) -> Example:
    return Example(id_, label)


def plain(counts: dict[str, int]) -> tuple[list[Example], dict[str, str]]:
    """Examples of these counts, no two of the same content."""
    found = [example(f"{label}/{i:03d}", label) for label, n in counts.items() for i in range(n)]
    return found, {e.id: f"content of {e.id}" for e in found}


@st.composite
def data_sets(draw) -> tuple[list[Example], dict[str, str]]:
    """Classes of 2 to 30 contents, some of them several times in a class; some files broken."""
    examples, digests = [], {}
    for label in "abcd"[: draw(st.integers(2, 4))]:
        for i, copies in enumerate(draw(st.lists(st.integers(1, 3), min_size=2, max_size=30))):
            for copy in range(copies):
                examples.append(example(f"{label}/{i:02d}-{copy}", label))
                digests[examples[-1].id] = f"{label}{i}"
        for i in range(draw(st.integers(0, 2))):
            examples.append(example(f"{label}/broken{i}", label))
    return examples, digests


shares = st.fixed_dictionaries({"val": st.floats(0.01, 0.6), "test": st.floats(0, 0.39)})
seeds = st.integers(0, 1000)


def sides(parts: Split) -> dict[str, set[str]]:
    """Return, by content id, the parts in which it lies."""
    found = defaultdict(set)
    for part, ids in parts.ids().items():
        for id_ in ids:
            found[id_].add(part)
    return found


@given(data_sets(), shares, seeds)
def test_parts_are_disjoint_and_cover_everything_usable(data, shares, seed):
    examples, digests = data
    parts = split({"train": examples}, digests, shares, seed)
    ids = [id_ for part in PARTS for id_ in parts.ids()[part]]
    assert sorted(ids) == sorted(digests)
    assert parts.left_out == {}


@given(data_sets(), shares, seeds)
def test_the_same_content_never_stands_in_two_parts(data, shares, seed):
    examples, digests = data
    parts = split({"train": examples}, digests, shares, seed)
    found = defaultdict(set)
    for id_, where in sides(parts).items():
        found[digests[id_]] |= where
    assert all(len(where) == 1 for where in found.values())


@given(st.lists(st.integers(3, 60), min_size=2, max_size=5), shares, seeds)
def test_every_part_has_its_share_of_every_class_within_one_example(counts, shares, seed):
    counts = {f"class{i}": n for i, n in enumerate(counts)}
    examples, digests = plain(counts)
    parts = split({"train": examples}, digests, shares, seed)
    for part, share in shares.items():
        found = Counter(e.label for e in getattr(parts, part))
        for label, n in counts.items():
            room = n - 1 - sum(max(1, round(s * n)) for s in shares.values() if s)
            if room >= 0:
                assert abs(found[label] - share * n) <= 1


@given(data_sets(), shares, seeds)
def test_each_class_is_trained_on_and_validated_with(data, shares, seed):
    examples, digests = data
    parts = split({"train": examples}, digests, shares, seed)
    labels = {e.label for e in examples}
    assert {e.label for e in parts.train} == {e.label for e in parts.val} == labels


@given(data_sets(), shares, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_examples_does_not_matter(data, shares, seed, random):
    examples, digests = data
    shuffled = random.sample(examples, len(examples))
    one = split({"train": examples}, digests, shares, seed)
    other = split({"train": shuffled}, digests, shares, seed)
    assert one.ids() == other.ids()


@given(data_sets(), shares, seeds)
def test_the_name_of_the_folder_does_not_matter(data, shares, seed):
    examples, digests = data
    moved = [example(f"elsewhere/{e.id}", e.label) for e in examples]
    one = split({"train": examples}, digests, shares, seed)
    other = split(
        {"train": moved}, {f"elsewhere/{id_}": d for id_, d in digests.items()}, shares, seed
    )
    assert {p: [f"elsewhere/{i}" for i in ids] for p, ids in one.ids().items()} == other.ids()


@given(data_sets(), data_sets(), data_sets(), seeds)
@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_given_parts_share_no_content_and_lose_nothing_unsaid(train, val, test, seed):
    """Contents are named alike in all three, so that most stand in several parts."""
    parts, digests = {}, {}
    for part, (examples, own) in (("train", train), ("val", val), ("test", test)):
        parts[part] = [example(f"{part}/{e.id}", e.label) for e in examples]
        digests |= {f"{part}/{id_}": digest for id_, digest in own.items()}
    # What val and test do not take of each class must suffice to train on.
    spare = {f"{label}spare{i}": label for label in "abcd" for i in range(2)}
    parts["train"] += [example(f"train/{name}", label) for name, label in spare.items()]
    parts["val"].append(example("val/spare", "a"))
    digests |= {f"train/{name}": name for name in spare} | {"val/spare": "val/spare"}
    made = split(parts, digests, {}, seed)
    contents = [{digests[id_] for id_ in ids} for ids in made.ids().values()]
    assert sum(map(len, contents)) == len(set.union(*contents))
    kept = [id_ for ids in made.ids().values() for id_ in ids]
    assert sorted([*kept, *made.left_out]) == sorted(digests)
    assert made.ids()["test"] == [e.id for e in parts["test"] if e.id in digests]


def test_neither_the_folders_name_nor_the_order_of_its_listing_matters(
    pictures, tmp_path, monkeypatch
):
    def parts_of(folder):
        source = open_source(folder)
        found = scan(source.parts["train"], Progress(quiet=True))
        return split(source.parts, found.digests, SHARES, 0).ids()

    before = parts_of(pictures)
    moved = shutil.copytree(pictures, tmp_path / "Elsewhere, and later")
    real = os.scandir

    @contextlib.contextmanager
    def backwards(path):
        with real(path) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(os, "scandir", backwards)
    assert parts_of(moved) == before


@given(st.integers(5, 40), st.integers(1, 5), seeds)
def test_new_pictures_do_not_move_most_others(count, more, seed):
    examples, digests = plain({"a": count + more, "b": 20})
    fewer = [e for e in examples if not (e.label == "a" and int(e.id[2:]) >= count)]
    one = split({"train": fewer}, digests, SHARES, seed)
    other = split({"train": examples}, digests, SHARES, seed)
    moved = [e.id for part in PARTS for e in getattr(one, part) if e.id not in other.ids()[part]]
    assert all(id_.startswith("a/") for id_ in moved)
    assert len(moved) <= 2 * more + 2


def test_other_seeds_give_other_splits():
    examples, digests = plain({"a": 50, "b": 50})
    found = {tuple(split({"train": examples}, digests, SHARES, s).ids()["test"]) for s in range(5)}
    assert len(found) == 5


@pytest.mark.parametrize(("count", "parts"), [(2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_small_classes_are_trained_on_and_validated_with_before_they_are_tested(count, parts):
    examples, digests = plain({"a": count, "b": 20})
    made = split({"train": examples}, digests, SHARES, 0)
    assert tuple(sum(e.label == "a" for e in getattr(made, p)) for p in PARTS) == parts


def test_copies_do_not_crowd_a_class_out_of_validation_and_test():
    counts = {"a": 6, "b": 6}
    examples, digests = plain(counts)
    digests = {id_: f"{id_[0]}{int(id_[2:]) // 2}" for id_ in digests}  # every picture twice
    made = split({"train": examples}, digests, SHARES, 0)
    assert [Counter(e.label for e in getattr(made, p)) for p in PARTS] == [{"a": 2, "b": 2}] * 3


def test_a_share_of_zero_leaves_the_test_part_empty():
    examples, digests = plain({"a": 20, "b": 20})
    made = split({"train": examples}, digests, {"val": 0.2, "test": 0.0}, 0)
    assert (len(made.train), len(made.val), len(made.test)) == (32, 8, 0)


@pytest.mark.parametrize("usable", [0, 1])
def test_a_class_with_less_than_two_usable_pictures_is_an_error(usable):
    examples, digests = plain({"rose": 3, "tulip": 5})
    digests = {
        id_: d for id_, d in digests.items() if not id_.startswith("rose") or int(id_[-1]) < usable
    }
    with pytest.raises(DataError, match=rf"class 'rose': needs at least 2.*Received: {usable}$"):
        split({"train": examples}, digests, SHARES, 0)


def test_two_copies_of_one_picture_are_not_two_pictures():
    examples, digests = plain({"rose": 2, "tulip": 5})
    digests["rose/001"] = digests["rose/000"]
    made = split({"train": examples}, digests, SHARES, 0)
    assert {"rose/000", "rose/001"} <= set(made.ids()["train"])


@given(seeds)
@settings(max_examples=30)
def test_one_content_under_two_labels_is_only_trained_on(seed):
    examples, digests = plain({"a": 10, "b": 10})
    digests["a/003"] = digests["b/007"]
    made = split({"train": examples}, digests, {"val": 0.4, "test": 0.4}, seed)
    assert {"a/003", "b/007"} <= set(made.ids()["train"])


def test_a_given_test_part_keeps_its_pictures_and_train_gives_them_up():
    train, digests = plain({"a": 10, "b": 10})
    test = [example("test/x", "a"), example("test/y", "b")]
    digests |= {"test/x": digests["a/004"], "test/y": "something else"}
    made = split({"train": train, "test": test}, digests, {"val": 0.2}, 0)
    assert made.ids()["test"] == ["test/x", "test/y"]
    assert "a/004" not in made.ids()["train"] + made.ids()["val"]
    assert made.left_out == {"a/004": "same content as test/x"}


def test_a_given_validation_part_gives_up_what_the_test_part_has():
    train, digests = plain({"a": 5, "b": 5})
    val = [example("val/x", "a"), example("val/z", "b")]
    test = [example("test/x", "a")]
    digests |= {"val/x": "same", "test/x": "same", "val/z": "z"}
    made = split({"train": train, "val": val, "test": test}, digests, {}, 0)
    assert made.ids()["val"] == ["val/z"]
    assert made.left_out == {"val/x": "same content as test/x"}
    assert len(made.train) == 10


def test_a_given_part_is_not_split_off_again():
    train, digests = plain({"a": 10, "b": 10})
    val = [example("val/x", "a")]
    digests["val/x"] = "x"
    made = split({"train": train, "val": val}, digests, {"test": 0.2}, 0)
    assert made.ids()["val"] == ["val/x"]
    assert (len(made.train), len(made.test)) == (16, 4)


def test_an_unusable_validation_part_is_an_error():
    train, digests = plain({"a": 5, "b": 5})
    with pytest.raises(DataError, match="validation data: no usable picture"):
        split({"train": train, "val": [example("val/x", "a")]}, digests, {}, 0)


def test_a_class_that_stands_whole_in_the_test_part_is_an_error():
    train, digests = plain({"a": 5, "b": 2})
    test = [example("test/0", "b"), example("test/1", "b")]
    digests |= {"test/0": digests["b/000"], "test/1": digests["b/001"]}
    with pytest.raises(DataError, match="class 'b': needs at least 2 usable"):
        split({"train": train, "test": test}, digests, {"val": 0.2}, 0)
