"""Labels beside arrays and tf.data sets: what numbers mean, and the names that they are given."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY

import tlkit
from tlkit.commands.asked import spec_of
from tlkit.data.number_targets import NumberTargets
from tlkit.data.readers.arrays import array_listing
from tlkit.data.readers.labelled import open_labelled
from tlkit.data.readers.open import open_source
from tlkit.data.targets import ClassTargets, LabelsTargets
from tlkit.errors import DataError, SpecError
from tlkit.spec.tables import TableSpec
from tlkit.tasks.registry import TASKS

IMAGES = (np.arange(4 * 8 * 8) % 256).reshape(4, 8, 8).astype(np.uint8)
NAMES = ("zebra", "ant")


def found(labels, targets):
    return [e.label for e in array_listing((IMAGES, labels), targets).parts["train"]]


def refused(labels, targets):
    with pytest.raises(DataError) as caught:
        open_source((IMAGES, labels), targets=targets)
    return str(caught.value)


# Numbers as labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 1, 0, 1], ["0", "1", "0", "1"]),
        ([0.0, 1.0, 0.0, 1.0], ["0", "1", "0", "1"]),
        ([0, 1.0, 0, np.float32(1)], ["0", "1", "0", "1"]),
        (np.array([[0.0], [1.0], [0.0], [1.0]]), ["0", "1", "0", "1"]),
        (np.eye(2, dtype=np.float32)[[0, 1, 0, 1]], ["0", "1", "0", "1"]),
        (np.eye(2, dtype=bool)[[0, 1, 0, 1]], ["0", "1", "0", "1"]),
        ([False, True, False, True], ["False", "True", "False", "True"]),
        ([-1, 1, -1, 1], ["-1", "1", "-1", "1"]),
        (np.array([b"x", b"y", b"x", b"y"]), ["x", "y", "x", "y"]),
        ([b"\xff", "y", "x", "y"], ["\\xff", "y", "x", "y"]),
    ],
)
def test_classes_as_numbers_rows_and_names(labels, classes):
    assert found(labels, ClassTargets()) == classes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, 1, 0, 1], "label 0: is no number of a class .*task=regression.*Received: 0.5"),
        ([0, 1, np.nan, 1], "label 2: is no number of a class.*Received: nan"),
        ([0, 1, np.inf, 1], "Received: inf"),
        ([0, 1, "0", "1"], r"one kind. Received: a number \(label 0\), text \(label 2\)"),
        ([True, False, 1, 0], r"truth \(label 0\), a number \(label 2\)"),
        ([None, None, "a", "b"], "label 0: is no name of a class. Received: None"),
        (["", "a", "b", "a"], "label 0: is no name of a class"),
        (["x" * 256, "a", "b", "a"], "label 0: is no name of a class.*255"),
        ([["a", "b"]] * 4, "label 0: needs one class"),
        ([[]] * 4, "label 0: needs one class"),
        ([[1, 0], [0, 1], [1, 1], [0, 1]], "label 2: needs exactly one 1 among 2 .*Received: 0, 1"),
        ([[1, 0], [0, 1], [0, 0], [0, 1]], "label 2: needs exactly one 1 .*Received: none"),
        ([[1, 0], [0.3, 0.7], [1, 0], [0, 1]], r"label 1: must be 0 or 1.*Received: \[0.3, 0.7\]"),
        ([[1, 0], [0, 1, 0], [1, 0], [0, 1]], r"a row of 2 \(label 0\), a row of 3 \(label 1\)"),
    ],
)
def test_labels_that_mean_no_class_are_refused(labels, message):
    assert re.search(message, refused(labels, ClassTargets()))


@pytest.mark.parametrize(
    ("labels", "given"),
    [
        ([[1, 0], [0, 1], [1, 1], [0, 0]], [("0",), ("1",), ("0", "1"), ()]),
        ([["a"], ["a", "b"], [], ["b", "b"]], [("a",), ("a", "b"), (), ("b",)]),
        (np.array([[True, False]] * 4), [("0",)] * 4),
    ],
)
def test_labels_as_rows_and_lists(labels, given):
    assert found(labels, LabelsTargets()) == given


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 3], [1, 0], [1, 0], [1, 1]], "label 0: must be 0 or 1"),
        ([[0, -1], [1, 0], [1, 0], [1, 1]], "label 0: must be 0 or 1"),
        ([[0, np.nan], [1, 0], [1, 0], [1, 1]], "label 0: must be 0 or 1"),
        ([[0, 1], [1, 0, 1], [1, 0], [1, 1]], "labels must all be of one kind"),
        ([0, 1, 0, 1], "label 0: needs a row of 0 and 1"),
    ],
)
def test_rows_that_are_no_labels_are_refused(labels, message):
    assert message in refused(labels, LabelsTargets())


def test_numbers_that_are_none_are_refused_with_their_place():
    assert "label 2: must be a number. Received: nan" in refused([1, 2, np.nan, 3], NumberTargets())


def test_negative_labels_are_pointed_out():
    notes = open_source((IMAGES, [-1, 0, 1, 0])).notes
    assert notes == ("a class like any other, also if it means unknown: '-1'",)


# Names


def named(task="classification", names=NAMES):
    return TASKS[task].labels(TableSpec(), names)


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0], [False, True, False, True], np.eye(2)[[0, 1, 0, 1]]],
)
def test_names_are_given_in_their_order(labels):
    source = open_source((IMAGES, labels), targets=named())
    assert [e.label for e in source.parts["train"]] == ["zebra", "ant"] * 2
    assert source.outputs == NAMES
    assert source.notes == ("labels are called by class_names: zebra, ant",)


def test_labels_that_are_names_already_get_the_order():
    source = open_source((IMAGES, ["ant", "zebra"] * 2), targets=named())
    assert source.outputs == NAMES


@pytest.mark.parametrize(
    ("task", "labels", "outputs"),
    [
        ("multilabel", [[1, 0], [0, 1], [1, 1], [0, 0]], NAMES),
        ("regression", [[1.5, 0], [0, 1], [1, 1], [0, 0]], NAMES),
    ],
)
def test_places_of_other_tasks_are_named(task, labels, outputs):
    assert open_source((IMAGES, labels), targets=named(task)).outputs == outputs


@pytest.mark.parametrize(
    ("labels", "targets", "message"),
    [
        (
            [0, 1, 2, 1],
            named(),
            "label 2: has no name in class_names. Allowed: 0 to 1 (zebra, ant)",
        ),
        ([0, 1, -1, 1], named(), "label 2: has no name in class_names"),
        ([0, 1, 0, 1], named(names=("a", "b", "c")), "no training image is labelled with 'c'"),
        (["x", "y", "x", "y"], named(names=("x", "y", "z")), "labelled with 'z'; leave it out of"),
        (["x", "y", "z", "y"], named(names=("x", "y")), "class_names lacks labels of the training"),
        (np.eye(3)[[0, 1, 2, 1]], named(), "needs a place for each of class_names. Allowed: 2. "),
        ([[1, 0, 1]] * 4, named("multilabel"), "needs a place for each of class_names"),
        ([[1, 0, 1]] * 4, named("regression"), "class_names must name each number. Allowed: 3"),
    ],
)
def test_names_that_do_not_fit_are_refused(labels, targets, message):
    assert message in refused(labels, targets)


@pytest.mark.parametrize(
    ("data", "fields", "message"),
    [
        ("flowers/", {"class_names": ["a", "b"]}, "class_names: names the numbers beside arrays"),
        ((IMAGES, [0, 1, 0, 1]), {"class_names": ["a", "a"]}, "needs a name of its own for each"),
        ((IMAGES, [0, 1, 0, 1]), {"class_names": ["a", " "]}, "needs a name of its own for each"),
    ],
)
def test_names_without_effect_or_sense_are_refused(data, fields, message):
    with pytest.raises(SpecError, match=message):
        spec_of(data, None, None, fields)


def test_options_of_a_table_are_refused_for_arrays():
    with pytest.raises(DataError, match="table.image: says how a table is read.*data tuple"):
        open_source((IMAGES, [0, 1, 0, 1]), targets=ClassTargets(TableSpec(image="x")))


# tf.data


def from_directory(folder, **options):
    import keras

    return keras.utils.image_dataset_from_directory(
        folder, image_size=(32, 32), verbose=False, **options
    )


@pytest.mark.parametrize("mode", ["int", "categorical"])
def test_names_of_a_directory_come_along(image_folder, mode):
    data = from_directory(image_folder, label_mode=mode)
    spec, _ = spec_of(data, None, None, {})
    assert spec.class_names == ["disc", "square", "stripes"]
    source = open_source(data)
    assert source.outputs == ("disc", "square", "stripes")
    assert source.notes == ("labels are called by the tf.data set's own: disc, square, stripes",)


def test_two_sets_at_once_are_refused(image_folder):
    pair = from_directory(image_folder, validation_split=0.5, subset="both", seed=0)
    with pytest.raises(DataError, match="several tf.data sets. Allowed: .*val and test"):
        open_source(pair)


def test_a_set_that_lost_its_names_can_be_given_them(image_folder, tmp_path):
    data = from_directory(image_folder).map(lambda x, y: (x, y))
    assert open_source(data).outputs == ("0", "1", "2")
    names = ["Scheibe", "Quadrat", "Streifen"]
    run = tlkit.train(
        data,
        class_names=np.array(names),
        regime="small",
        out=tmp_path / "run",
        progress=False,
        **TINY,
    )
    assert list(run.labels) == names
    # The run knows the names of numbers later on.
    again = tlkit.open_run(run.folder)
    found = again.evaluate(data, progress=False)
    assert found["examples"] + found["seen_in_training"] + found["seen_in_validation"] == 36


def test_names_of_parts_are_those_of_their_own_sets(image_folder, tmp_path):
    (tmp_path / "val").mkdir()
    for label in ("square", "stripes"):
        (tmp_path / "val" / label).symlink_to(image_folder / label)
    val = from_directory(tmp_path / "val", follow_links=True)
    source = open_source(
        from_directory(image_folder), val=val, targets=named(names=("disc", "square", "stripes"))
    )
    assert {e.label for e in source.parts["val"]} == {"square", "stripes"}
    examples, *_ = open_labelled(val, source.outputs)
    assert {e.label for e in examples} == {"square", "stripes"}


def test_a_set_with_other_names_than_told_is_refused(image_folder):
    spec, arrays = spec_of(
        from_directory(image_folder), None, None, {"class_names": ["a", "b", "c"]}
    )
    with pytest.raises(
        DataError, match="are others than class_names. Allowed: a, b, c. Received: disc"
    ):
        open_source(arrays["data"], targets=named(names=tuple(spec.class_names)))


def test_numbers_of_a_validation_set_mean_what_they_mean_in_training():
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES[..., None], [1, 0, 1, 0]))
    source = open_source((IMAGES, [0, 1, 0, 1]), val=pairs, targets=named())
    assert [e.label for e in source.parts["val"]] == ["ant", "zebra", "ant", "zebra"]
