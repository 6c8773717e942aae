"""The split: properties that hold for every data set, and the cases that go wrong elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlkit.data.example import Example
from tlkit.data.number_targets import NumberTargets
from tlkit.data.readers.open import open_source
from tlkit.data.scan.scan import scan
from tlkit.data.split import Split, split
from tlkit.data.targets import ClassTargets, LabelsTargets
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
    image_folder, tmp_path, monkeypatch
):
    def parts_of(folder):
        source = open_source(folder)
        found = scan(source.parts["train"], Progress(quiet=True))
        return split(source.parts, found.digests, SHARES, 0).ids()

    before = parts_of(image_folder)
    moved = shutil.copytree(image_folder, tmp_path / "Elsewhere, and later")
    real = os.scandir

    @contextlib.contextmanager
    def backwards(path):
        with real(path) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(os, "scandir", backwards)
    assert parts_of(moved) == before


@given(st.integers(5, 40), st.integers(1, 5), seeds)
def test_new_images_do_not_move_most_others(count, more, seed):
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
    digests = {id_: f"{id_[0]}{int(id_[2:]) // 2}" for id_ in digests}  # every image twice
    made = split({"train": examples}, digests, SHARES, 0)
    assert [Counter(e.label for e in getattr(made, p)) for p in PARTS] == [{"a": 2, "b": 2}] * 3


def test_a_share_of_zero_leaves_the_test_part_empty():
    examples, digests = plain({"a": 20, "b": 20})
    made = split({"train": examples}, digests, {"val": 0.2, "test": 0.0}, 0)
    assert (len(made.train), len(made.val), len(made.test)) == (32, 8, 0)


@pytest.mark.parametrize("usable", [0, 1])
def test_a_class_with_less_than_two_usable_images_is_an_error(usable):
    examples, digests = plain({"rose": 3, "tulip": 5})
    digests = {
        id_: d for id_, d in digests.items() if not id_.startswith("rose") or int(id_[-1]) < usable
    }
    with pytest.raises(DataError, match=rf"fewer than 2 usable images.*: 'rose' \({usable}\)\. "):
        split({"train": examples}, digests, SHARES, 0)


def test_two_copies_of_one_image_are_not_two_images():
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


def test_a_given_test_part_keeps_its_images_and_train_gives_them_up():
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
    with pytest.raises(DataError, match="validation data: no usable image"):
        split({"train": train, "val": [example("val/x", "a")]}, digests, {}, 0)


def test_a_class_that_stands_whole_in_the_test_part_is_an_error():
    train, digests = plain({"a": 5, "b": 2})
    test = [example("test/0", "b"), example("test/1", "b")]
    digests |= {"test/0": digests["b/000"], "test/1": digests["b/001"]}
    with pytest.raises(DataError, match=r"fewer than 2 usable images.*: 'b' \(0\)"):
        split({"train": train, "test": test}, digests, {"val": 0.2}, 0)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("classes", "370813d83d4a38bd"),
        ("labels", "1c7f6f983972f23e"),
        ("numbers", "665c8f17b250a034"),
    ],
)
def test_without_groups_the_split_is_what_it_always_was(kind, expected):
    """Figures that were published are of this split: from before there were groups."""
    examples, digests = [], {}
    for label, count in {"a": 2, "b": 3, "c": 7, "d": 40, "e": 101}.items():
        for i in range(count):
            examples.append(example(f"{label}/{i:03d}", label))
            digests[examples[-1].id] = f"{label}{i if i % 9 else 0}"
    digests["e/004"] = digests["d/005"]
    digests.pop("e/050")
    targets = ClassTargets()
    if kind == "labels":
        targets, names = LabelsTargets(), "abcde"
        labels = [tuple(sorted({e.label, names[i % 5]})) for i, e in enumerate(examples)]
        examples = [Example(e.id, label) for e, label in zip(examples, labels, strict=True)]
    elif kind == "numbers":
        targets = NumberTargets()
        examples = [Example(e.id, (float(i * 37 % 101),)) for i, e in enumerate(examples)]
    found = [
        split({"train": examples}, digests, wanted, seed, targets).ids()
        for wanted in (SHARES, {"val": 0.4, "test": 0.0}, {"val": 0.3, "test": 0.5})
        for seed in (0, 1, 7)
    ]
    text = json.dumps(found, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == expected


# Groups


def in_groups(sizes: dict[str, list[int]]) -> tuple[list[Example], dict[str, str]]:
    """Examples of groups of one class each, of these sizes; no two of the same content."""
    found = [
        Example(f"{label}/{g:03d}-{i:02d}", label, group=f"{label}{g}")
        for label, own in sizes.items()
        for g, size in enumerate(own)
        for i in range(size)
    ]
    return found, {e.id: f"content of {e.id}" for e in found}


@st.composite
def grouped_sets(draw) -> tuple[list[Example], dict[str, str]]:
    """Groups of images of any classes, some images in none, some of one content in two groups."""
    examples, digests = [], {}
    labels = "abcd"[: draw(st.integers(2, 4))]
    for label in labels:  # what makes each class known in groups of its own
        for i in range(3):
            examples.append(Example(f"sure/{label}{i}", label, group=f"sure {label}{i}"))
    for g in range(draw(st.integers(1, 25))):
        for i, label in enumerate(draw(st.lists(st.sampled_from(labels), min_size=1, max_size=6))):
            examples.append(Example(f"g{g:02d}/{i}", label, group=f"{g}"))
    for i, label in enumerate(draw(st.lists(st.sampled_from(labels), max_size=10))):
        examples.append(Example(f"alone/{i}", label))
    digests = {e.id: f"content of {e.id}" for e in examples}
    for _ in range(draw(st.integers(0, 3))):
        one, other = draw(st.sampled_from(examples)), draw(st.sampled_from(examples))
        digests[one.id] = digests[other.id]
    return examples, digests


@given(grouped_sets(), shares, seeds)
def test_no_group_and_no_content_ever_stands_on_two_sides(data, shares, seed):
    examples, digests = data
    made = split({"train": examples}, digests, shares, seed, rare="train")
    ids = [id_ for part in PARTS for id_ in made.ids()[part]]
    assert sorted(ids) == sorted(digests)
    where = sides(made)
    for key in (lambda e: e.group or e.id, lambda e: digests[e.id], lambda e: made.units[e.id]):
        found = defaultdict(set)
        for e in examples:
            found[key(e)] |= where[e.id]
        assert all(len(parts) == 1 for parts in found.values())


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=4, max_size=40), min_size=2, max_size=4),
    st.fixed_dictionaries({"val": st.floats(0.05, 0.4), "test": st.floats(0.05, 0.4)}),
    seeds,
)
def test_every_part_has_its_share_of_every_class_within_one_group(sizes, shares, seed):
    sizes = {f"class{i}": own for i, own in enumerate(sizes)}
    examples, digests = in_groups(sizes)
    made = split({"train": examples}, digests, shares, seed)
    found = {part: Counter(e.label for e in getattr(made, part)) for part in PARTS}
    for label, own in sizes.items():
        for part, share in shares.items():
            assert abs(found[part][label] - share * sum(own)) <= max(own)
        # Where less than half a group is wanted, each part still takes one, at the cost of train.
        if min(shares.values()) * sum(own) >= max(own) / 2:
            rest = 1 - sum(shares.values())
            assert abs(found["train"][label] - rest * sum(own)) <= max(own)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_groups_of_several_classes_are_shared_out_within_the_largest(seed):
    """Sixty patients with lesions of up to three kinds each, one kind being much rarer."""
    random, examples = np.random.default_rng(seed), []
    for g in range(60):
        kinds = random.choice(list("aabbbbcd"), size=random.integers(1, 4))
        for i in range(random.integers(1, 9)):
            examples.append(Example(f"{g}/{i}", str(random.choice(kinds)), group=f"patient {g}"))
    digests = {e.id: e.id for e in examples}
    made = split({"train": examples}, digests, SHARES, seed)
    totals, largest = Counter(e.label for e in examples), 8
    for part, share in SHARES.items():
        found = Counter(e.label for e in getattr(made, part))
        assert set(found) == set(totals)
        assert all(abs(found[k] - share * totals[k]) <= largest for k in totals)


@given(grouped_sets(), shares, seeds, st.randoms(use_true_random=False))
def test_the_order_of_grouped_examples_does_not_matter(data, shares, seed, random):
    examples, digests = data
    shuffled = random.sample(examples, len(examples))
    one = split({"train": examples}, digests, shares, seed, rare="train")
    other = split({"train": shuffled}, digests, shares, seed, rare="train")
    assert one.ids() == other.ids()
    assert one.units == other.units


@given(grouped_sets(), seeds)
def test_classes_in_groups_are_trained_on_and_where_possible_validated_with(data, seed):
    examples, digests = data
    made = split({"train": examples}, digests, SHARES, seed, rare="train")
    assert {e.label for e in made.train} == {e.label for e in examples}
    assert made.val
    left = {e.label for e in made.train} - {e.label for e in made.val + made.test}
    assert bool(left) == any("never measured" in note for note in made.notes)


def test_other_seeds_give_other_groups():
    examples, digests = in_groups({"a": [3] * 30, "b": [1, 2, 3] * 10})
    found = {tuple(split({"train": examples}, digests, SHARES, s).ids()["test"]) for s in range(5)}
    assert len(found) == 5


@pytest.mark.parametrize(("count", "parts"), [(2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1))])
def test_few_groups_are_trained_on_and_validated_with_before_they_are_tested(count, parts):
    examples, digests = in_groups({"a": [5] * count, "b": [2] * 30})
    made = split({"train": examples}, digests, SHARES, 0)
    assert tuple(sum(e.label == "a" for e in getattr(made, p)) // 5 for p in PARTS) == parts


def test_groups_that_share_a_content_are_one():
    examples, digests = in_groups({"a": [4] * 8, "b": [4] * 8})
    digests["a/000-00"] = digests["a/001-00"]
    digests["a/001-01"] = digests["a/002-00"]  # a chain of three
    for seed in range(20):
        where = sides(split({"train": examples}, digests, SHARES, seed))
        assert len(set.union(*(where[f"a/00{g}-0{i}"] for g in range(3) for i in range(4)))) == 1


def test_a_group_with_a_content_under_two_labels_is_only_trained_on():
    examples, digests = in_groups({"a": [2] * 8, "b": [2] * 8})
    digests["a/000-00"] = digests["b/003-01"]
    made = split({"train": examples}, digests, {"val": 0.4, "test": 0.4}, 1)
    assert {"a/000-01", "b/003-00"} <= set(made.ids()["train"])


@pytest.mark.parametrize(
    ("targets", "groups"),
    [*((NumberTargets(), n) for n in (2, 3, 4, 40)), *((LabelsTargets(), n) for n in (4, 10, 40))],
)
def test_groups_of_numbers_and_labels(groups, targets):
    """All images of a group have one number, so that no bin stands in two groups."""
    examples = []
    for g in range(groups):
        label = (float(g),) if isinstance(targets, NumberTargets) else tuple("wxyz"[: g % 3])
        examples += [Example(f"{g}/{i}", label, group=str(g)) for i in range(5)]
    digests = {e.id: e.id for e in examples}
    made = split({"train": examples}, digests, SHARES, 0, targets, rare="train")
    assert made.train
    assert made.val
    if groups >= 10:
        assert 0.05 * len(examples) <= len(made.test) <= 0.3 * len(examples)


@pytest.mark.parametrize("two", [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_group_in_two_given_parts_is_an_error(two):
    parts = {}
    for part in PARTS:
        examples, _ = in_groups({"a": [2, 2, 2], "b": [2, 2]})
        parts[part] = [
            Example(f"{part}/{e.id}", e.label, group=f"{part} {e.group}") for e in examples
        ]
    for part in two:
        parts[part].append(Example(f"{part}/odd", "a", group="patient 7"))
    digests = {e.id: e.id for own in parts.values() for e in own}
    message = rf"1 of them stand in two.*'patient 7' with {two[0]}/odd in {two[0]} and {two[1]}/odd"
    with pytest.raises(DataError, match=message):
        split(parts, digests, {}, 0)
    digests.pop(f"{two[0]}/odd")  # a file that nobody can read is on no side
    split(parts, digests, {}, 0)


def test_the_training_part_gives_up_a_group_of_which_a_content_is_tested():
    train, digests = in_groups({"a": [3] * 6, "b": [3] * 6})
    test = [Example("test/x", "a", group="other name"), Example("test/y", "b", group="y")]
    digests |= {"test/x": digests["a/004-01"], "test/y": "y"}
    made = split({"train": train, "test": test}, digests, {"val": 0.2}, 0)
    assert made.left_out == {
        "a/004-01": "same content as test/x",
        "a/004-00": "its group shares an image with that of test/x",
        "a/004-02": "its group shares an image with that of test/x",
    }


# Rare classes


def rare_set() -> tuple[list[Example], dict[str, str]]:
    return plain({"one": 1, "other": 1, "rose": 12, "tulip": 12})


def test_all_rare_classes_are_named_at_once_with_the_way_on():
    examples, digests = rare_set()
    examples.append(example("broken/0", "broken"))
    message = r"'broken' \(0\), 'one' \(1\), 'other' \(1\)\. Allowed: .*rare=drop .*rare=train"
    with pytest.raises(DataError, match=message):
        split({"train": examples}, digests, SHARES, 0)


def test_rare_classes_are_dropped():
    examples, digests = rare_set()
    made = split({"train": examples}, digests, SHARES, 0, rare="drop")
    assert made.dropped == ("one", "other")
    assert made.left_out["one/000"] == "of class 'one', which has too few usable images (rare=drop)"
    assert {e.label for part in made.parts().values() for e in part} == {"rose", "tulip"}
    assert made.notes == (
        "classes with fewer than 2 usable images are no outputs (rare=drop): 'one' (1), "
        "'other' (1)",
    )
    without, _ = plain({"rose": 12, "tulip": 12})
    assert made.ids() == split({"train": without}, digests, SHARES, 0).ids()


def test_rare_classes_are_trained_on_and_that_is_said():
    examples, digests = rare_set()
    made = split({"train": examples}, digests, SHARES, 0, rare="train")
    assert {"one/000", "other/000"} <= set(made.ids()["train"])
    assert made.dropped == ()
    assert made.notes == ("classes trained on and never measured: 'one', 'other'",)


def test_a_class_without_usable_images_cannot_be_trained_on():
    examples, digests = rare_set()
    digests.pop("one/000")
    with pytest.raises(DataError, match=r"without a usable image to train on: 'one'\. Allowed"):
        split({"train": examples}, digests, SHARES, 0, rare="train")
    assert split({"train": examples}, digests, SHARES, 0, rare="drop").dropped == ("one", "other")


def test_a_class_dropped_from_train_goes_from_the_given_parts():
    examples, digests = rare_set()
    val = [example("val/0", "rose"), example("val/1", "one")]
    test = [example("test/0", "other"), example("test/1", "tulip")]
    digests |= {e.id: e.id for e in val + test}
    parts = {"train": examples, "val": val, "test": test}
    made = split(parts, digests, {}, 0, rare="drop")
    assert (made.ids()["val"], made.ids()["test"]) == (["val/0"], ["test/1"])
    assert set(made.left_out) == {"val/1", "test/0", "one/000", "other/000"}
    kept = split(parts, digests, {}, 0, rare="train")
    assert (kept.ids()["val"], kept.notes) == (["val/0", "val/1"], ())


def test_dropping_must_leave_two_classes():
    examples, digests = plain({"one": 1, "other": 1, "rose": 9})
    with pytest.raises(DataError, match=r"rare=drop: leaves fewer than 2 classes.*'other' \(1\)"):
        split({"train": examples}, digests, SHARES, 0, rare="drop")


def test_a_class_in_a_single_group_is_rare():
    examples, digests = in_groups({"a": [9], "b": [1, 2, 3], "c": [2] * 9})
    with pytest.raises(DataError, match=r"fewer than 2 usable groups.*: 'a' \(1\)\. "):
        split({"train": examples}, digests, SHARES, 0)
    made = split({"train": examples}, digests, SHARES, 0, rare="train")
    assert sum(e.label == "a" for e in made.train) == 9
    dropped = split({"train": examples}, digests, SHARES, 0, rare="drop")
    assert sum(why.startswith("of class 'a'") for why in dropped.left_out.values()) == 9


def test_a_rare_label_goes_and_its_images_stay():
    labels = [("x",), ("x", "y"), ("y",), ("rare",), ("rarer", "x"), ()] + [("x",), ("y",)] * 6
    examples = [Example(f"{i:02d}", label) for i, label in enumerate(labels)]
    digests = {e.id: e.id for e in examples}
    with pytest.raises(DataError, match=r"labels with fewer.*: 'rare' \(1\), 'rarer' \(1\)"):
        split({"train": examples}, digests, SHARES, 0, LabelsTargets())
    made = split({"train": examples}, digests, SHARES, 0, LabelsTargets(), "drop")
    assert made.left_out == {}
    found = {e.id: e.label for part in made.parts().values() for e in part}
    assert (found["03"], found["04"], found["05"]) == ((), ("x",), ())
    assert "their images stay, without them" in made.notes[0]
    with pytest.raises(DataError, match="rare=drop: leaves fewer than 1 labels"):
        split({"train": examples[3:6]}, digests, SHARES, 0, LabelsTargets(), "drop")


def test_two_copies_of_one_image_are_never_measured_and_that_is_said():
    examples, digests = plain({"rose": 2, "tulip": 5})
    digests["rose/001"] = digests["rose/000"]
    made = split({"train": examples}, digests, SHARES, 0)
    assert made.notes == ("classes trained on and never measured: 'rose'",)
