"""Images that belong together, by a column or by a pattern; rare classes at the command line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import CLASSES, TINY, write_images

import tlkit
from tlkit.cli.main import main
from tlkit.data.feed.dataset import load_dataset
from tlkit.data.feed.examples import joint_groups
from tlkit.data.readers.open import open_source
from tlkit.errors import DataError, SpecError
from tlkit.progress import Progress
from tlkit.spec.read import make_spec
from tlkit.tasks.classification import Classification

QUIET = Progress(quiet=True)
QUICK = (
    "--backbone",
    "MobileNet",
    "--set",
    "backbone.alpha=0.25",
    "--set",
    "backbone.weights=none",
)
QUICK += ("--image-size", "32", "--regime", "small")


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """48 images of three classes; `who`: four images of a patient, of whom some have two classes;
    the last four are of nobody."""
    folder = tmp_path_factory.mktemp("patients")
    write_images(folder / "images", count=16)
    files = sorted((folder / "images").rglob("*.png"))
    rows = [
        (f"images/{f.parent.name}/{f.name}", f.parent.name, i // 3) for i, f in enumerate(files)
    ]
    for name, keep in (("table.csv", 5), ("whole.csv", 0)):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "label", "who"])
            last = len(rows) - keep
            writer.writerows(
                (image, label, f"p{n}" if i < last else "")
                for i, (image, label, n) in enumerate(rows)
            )
    return folder


def made(data, **fields):
    return load_dataset(make_spec({"data": str(data), **TINY, **fields}), {}, QUIET)


def sides(prepared) -> dict[str, set[str]]:
    """Return the parts in which each group has images."""
    found = {}
    for part, examples in prepared.split.parts().items():
        for example in examples:
            found.setdefault(example.group or example.id, set()).add(part)
    return found


def refusal(*arguments) -> str:
    found = CliRunner().invoke(main, [str(a) for a in arguments])
    assert found.exit_code == 2, found.output
    assert "Traceback" not in found.output
    return " ".join(found.output.split())


# By a column


def test_a_column_keeps_patients_on_one_side(patients):
    prepared = made(patients / "table.csv", table={"group": "who"})
    assert all(len(parts) == 1 for parts in sides(prepared).values())
    assert all(prepared.split.parts().values())
    found = prepared.scan_json()
    assert found["groups"] == {
        "option": "table.group=who",
        "count": 20,
        "smallest": 1,
        "largest": 3,
        "alone": 5,
        "of_several_labels": 2,
        "across_parts": [],
    }
    assert found["notes"][0].startswith("5 images have no who; each stands alone: images/stripes/")
    without = made(patients / "table.csv")
    assert without.scan_json()["groups"] is None
    where = {e.id: p for p, examples in without.split.parts().items() for e in examples}
    groups = {}
    for part in prepared.source.parts.values():
        for e in part:
            groups.setdefault(e.group, set()).add(where[e.id])
    assert any(len(parts) > 1 for group, parts in groups.items() if group)


def test_training_on_groups_from_the_command_line(patients, tmp_path):
    out = tmp_path / "run"
    arguments = ["train", str(patients / "table.csv"), "--set", "table.group=who", *QUICK]
    found = CliRunner().invoke(main, [*arguments, "--out", str(out)])
    assert found.exit_code == 0, found.output
    said = " ".join(found.output.split())
    expected = (
        "20 groups of 1 to 3 images (table.group=who), 2 of them with several labels: each on"
    )
    assert f"groups {expected} one side of every split" in said
    run = tlkit.open_run(out)
    assert run.spec.table.group == "who"
    assert json.loads((out / "scan.json").read_text())["groups"]["count"] == 20
    assert run.evaluate(progress=False)["accuracy"] == run.metrics["test"]["accuracy"]
    # What is evaluated on needs no such column, and a class that is not there is not missed.
    one = write_images(tmp_path / "one", labels=CLASSES[:1], count=3, seed=9)
    assert run.evaluate(one, progress=False)["examples"] == 3
    found = run.evaluate(patients / "images", progress=False)
    assert found["examples"] + found["seen_in_training"] + found["seen_in_validation"] == 48


def test_a_prepared_data_set_keeps_its_groups(patients, tmp_path):
    options = {"table": {"group": "who"}}
    before = made(patients / "table.csv", table={"group": "who"})
    out = tlkit.prepare_data(patients / "table.csv", tmp_path / "out", progress=False, **options)
    after = made(out)
    assert after.split.ids() == before.split.ids()
    assert after.scan_json()["groups"] == {**before.scan_json()["groups"], "option": "as prepared"}
    again = made(out, table={"group": "who"})  # as it was prepared: the README says so
    assert again.split.ids() == before.split.ids()
    numbers = []
    for prepared in (before, after):
        encode = Classification(prepared.source.outputs).encode
        joint = joint_groups(prepared.examples("train", encode), prepared.examples("val", encode))
        numbers.append(np.unique(joint, return_inverse=True)[1])
    np.testing.assert_array_equal(*numbers)
    assert len(np.unique(numbers[0])) < len(numbers[0])
    with pytest.raises(DataError, match="was prepared with its groups"):
        made(out, group="disc")


def test_a_data_set_prepared_before_there_were_groups_is_read(patients, tmp_path):
    out = tlkit.prepare_data(patients / "whole.csv", tmp_path / "out", progress=False)
    about = out / "tlkit.json"
    said = {k: v for k, v in json.loads(about.read_text()).items() if k != "digests"}
    about.write_text(json.dumps({**said, "format": 1}))
    for index in out.glob("index-*.jsonl"):
        rows = [json.loads(line)[:3] for line in index.read_text().splitlines()]
        index.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert made(out).split.ids() == made(patients / "whole.csv").split.ids()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.png,x,1", "a.png,x,2"], "line 3: a.png stands in two groups.*Received: '1' and '2'"),
        (["a.png,x,1", "a.png,y,"], "line 3: a.png stands in two groups.*Received: '1' and None"),
        (["a.png,x,", "b.png,y,"], "table.group: puts no image of t into a group. Allowed: a col"),
        (["a.png,x,1", "b.png,y,1"], "table.group=who: all 2 images of t are one group, '1'"),
    ],
)
def test_columns_that_group_nothing_or_too_much(tmp_path, rows, message):
    (tmp_path / "t.csv").write_text("\n".join(["image,label,who", *rows]) + "\n")
    for row in rows:
        (tmp_path / row.split(",")[0]).touch()
    with pytest.raises(DataError, match=message):
        made(tmp_path / "t.csv", table={"group": "who"})


def test_a_column_that_is_not_there(patients):
    said = refusal("plan", patients / "table.csv", *QUICK, "--set", "table.group=patient")
    assert "lacks the column patient" in said


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_a_column_without_a_table_is_an_error(image_folder, kind):
    images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    data = str(image_folder) if kind == "folder" else (images, np.arange(8) % 2)
    with pytest.raises(
        DataError, match="table.group: says how a table is read, and the data is none"
    ):
        tlkit.plan(data, table={"group": "who"}, progress=False, **TINY)


def test_groups_in_two_stated_parts(patients, tmp_path):
    rows = (patients / "table.csv").read_text().splitlines()
    lines = [f"{rows[0]},split"]
    lines += [f"{row},{('train', 'train', 'val', 'test')[i % 4]}" for i, row in enumerate(rows[1:])]
    (patients / "split.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(
        DataError, match=r"groups: 14 of them stand in two of the parts.*such as 'p"
    ):
        made(patients / "split.csv", table={"group": "who"})
    arguments = ["data", "scan", str(patients / "split.csv"), "--set", "table.group=who"]
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).stdout)
    assert len(found["groups"]["across_parts"]) == 14
    shown = " ".join(CliRunner().invoke(main, arguments).output.split())
    assert "in two parts, which train refuses: p0, p1, p10 and 11 more" in shown


# By a pattern


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"(\w+)[02468]\.png", {"disc0", "disc1", "square0", "square1", "stripes0", "stripes1"}),
        (r"[a-z]+0(?=\d\.png)", {"disc0", "square0", "stripes0"}),  # the whole match
        (r"/[a-z]+(\d)", {"0", "1"}),  # over all classes
        (r"(\d)[0-9]\.png$", {"0", "1"}),
        (r"s(?P<who>\w)\w+0", {"c", "q", "t"}),
        (r"(x)|1\d", set()),  # another alternative than the group's
    ],
)
def test_a_pattern_names_groups_in_folders(image_folder, pattern, groups):
    if not groups:
        with pytest.raises(DataError, match="group: matches no image"):
            made(image_folder, group=pattern)
        return
    prepared = made(image_folder, group=pattern, rare="train")
    examples = [e for part in prepared.source.parts.values() for e in part]
    assert {e.group for e in examples} - {None} == groups
    assert all(len(parts) == 1 for parts in sides(prepared).values())
    alone = sum(e.group is None for e in examples)
    notes = [note for note in prepared.source.notes if "each stands alone" in note]
    assert len(notes) == (alone > 0)
    if alone:
        assert notes[0].startswith(f"{alone} images match no group={pattern}; each stands alone: ")


def test_a_pattern_is_searched_below_the_validation_data_too(image_folder, tmp_path):
    write_images(tmp_path / "more", count=2, seed=7)
    for file in sorted((tmp_path / "more").rglob("*.png")):
        file.rename(file.with_name(f"new{file.name}"))
    prepared = made(image_folder, val=str(tmp_path / "more"), group=r"^\w+/\w+?\d", rare="train")
    groups = {e.group for e in prepared.split.val}
    assert "disc/newdisc0" in groups
    assert all(e.id.startswith("val/") for e in prepared.split.val)


def test_a_pattern_from_the_command_line_is_taken_as_written(image_folder):
    arguments = ["plan", str(image_folder), *QUICK, "--set", r"group=[a-z]+(\d\d) *(?#: a number)"]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 0, found.output
    said = " ".join(found.output.split())
    assert "12 groups of 3 images (group=[a-z]+(\\d\\d) *(?#: a number))" in said
    assert "12 of them with several labels: each on one side of every split" in said


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("patient_([0-9]+", "group: is no regular expression: missing ), unterminated subpattern"),
        ("*", "group: is no regular expression: nothing to repeat"),
        ("[z-a]", "group: is no regular expression: bad character range z-a"),
        (
            "patient_([0-9]+)",
            "group: matches no image of shapes. Allowed: a regular expression that",
        ),
        ("()", "group: matches no image of shapes"),  # empty: none
        (r"\.(png)$", "all 36 images of shapes are one group, 'png', which no split can part"),
        ("^", "group: matches no image of shapes"),
        (
            r"^(\w+)/",
            "fewer than 2 usable groups, one to train on and one to validate with: 'disc'",
        ),
    ],
)
def test_patterns_that_do_not_group(image_folder, pattern, message):
    said = refusal("plan", image_folder, *QUICK, "--set", f"group={pattern}")
    assert message in said


@pytest.mark.parametrize(("pattern", "told"), [(r"(\w+)\.png", True), (r"(\d)\.png", False)])
def test_groups_of_one_image_each_change_nothing(image_folder, pattern, told):
    notes = open_source(image_folder, group=pattern).notes
    note = f"group={pattern}: no two images are in one group; it changes nothing"
    assert notes == ((note,) if told else ())


def test_a_pattern_that_matches_nothing_shows_ids(image_folder):
    with pytest.raises(DataError, match=r"such as disc/disc00\.png, disc/disc01\.png, disc/disc02"):
        made(image_folder, group="patient")


def test_a_pattern_and_a_column_are_one_too_many():
    with pytest.raises(SpecError, match="group: table.group says already which images belong"):
        make_spec({"data": "x.csv", "group": "a", "table": {"group": "who"}})


def test_images_of_one_content_are_one_group_in_folds(image_folder, tmp_path):
    write_images(tmp_path / "data", labels=CLASSES[:2], count=4)
    for i in range(3):
        twin = tmp_path / "data" / "disc" / f"twin{i}.png"
        twin.write_bytes((tmp_path / "data" / "disc" / "disc00.png").read_bytes())
    prepared = made(tmp_path / "data", seed=3)
    encode = Classification(prepared.source.outputs).encode
    parts = [prepared.examples(part, encode) for part in ("train", "val", "test")]
    assert len(np.unique(joint_groups(*parts))) == 8
    alone = made(image_folder)
    parts = [
        alone.examples(p, Classification(alone.source.outputs).encode) for p in ("train", "val")
    ]
    assert joint_groups(*parts) is None


# Rare classes


@pytest.fixture
def rare(tmp_path):
    write_images(tmp_path / "data", labels=CLASSES[:2], count=8)
    write_images(tmp_path / "data", labels=CLASSES[2:], count=1)
    return tmp_path / "data"


def test_rare_classes_are_refused_with_the_way_on(rare):
    said = refusal("plan", rare, *QUICK)
    assert "classes with fewer than 2 usable images" in said
    assert "'stripes' (1). Allowed: more images of them, --set rare=drop" in said
    assert "--set rare=train to train on them and never measure them" in said


@pytest.mark.parametrize(
    ("choice", "classes"), [("drop", 2), pytest.param("train", 3, marks=pytest.mark.full)]
)
def test_rare_classes_are_dropped_or_trained_on(rare, choice, classes, tmp_path):
    out = tmp_path / "run"
    found = CliRunner().invoke(
        main, ["train", str(rare), *QUICK, "--set", f"rare={choice}", "--out", str(out)]
    )
    assert found.exit_code == 0, found.output
    run = tlkit.open_run(out)
    assert len(run.labels) == classes
    assert run.model.output_shape == (None, classes)
    scan = json.loads((out / "scan.json").read_text())
    test = run.metrics["test"]
    if choice == "drop":
        assert "are no outputs (rare=drop): 'stripes' (1)" in found.output.replace("\n", " ")
        assert scan["dropped"] == ["stripes"]
        assert [row["id"] for row in scan["left_out"]] == ["stripes/stripes00.png"]
    else:
        assert scan["notes"] == ["classes trained on and never measured: 'stripes'"]
        assert scan["dropped"] == []
    assert set(test["per_class"]) == set(run.labels)
    assert run.evaluate(progress=False)["accuracy"] == test["accuracy"]


def test_a_dropped_label_is_no_output(tmp_path):
    write_images(tmp_path / "images", labels=CLASSES[:2], count=8)
    files = sorted((tmp_path / "images").rglob("*.png"))
    rows = [f"images/{f.parent.name}/{f.name},{f.parent.name}" for f in files]
    rows[3] += "|odd"
    (tmp_path / "t.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    prepared = made(tmp_path / "t.csv", task="multilabel", rare="drop")
    assert prepared.source.outputs == ("disc", "square")
    kept = {e.id: e.label for part in prepared.split.parts().values() for e in part}
    assert len(kept) == 16
    assert set(kept.values()) == {("disc",), ("square",)}


def test_numbers_are_never_rare():
    with pytest.raises(
        SpecError, match="rare: numbers have no classes.*regression: error. Received"
    ):
        make_spec({"data": "x.csv", "task": "regression", "rare": "drop"})


# A class that is not there


def test_all_right_on_a_single_class_is_a_macro_f1_of_one(tiny_run, tmp_path):
    # Those that the run gets right, so that the others occur in neither truth nor prediction.
    folder = write_images(tmp_path / "one", labels=CLASSES[:1], count=12)
    for row in tiny_run.predict(sorted(folder.rglob("*.png"))):
        if row["label"] != CLASSES[0]:
            (folder / CLASSES[0] / row["path"].rsplit("/", 1)[-1]).unlink()
    found = CliRunner().invoke(main, ["evaluate", str(tiny_run.folder), str(folder)])
    assert found.exit_code == 0, found.output
    assert "macro F1 1.000" in found.output
    lines = [line for line in found.output.splitlines() if "square" in line or "stripes" in line]
    assert [line.count(" - ") for line in lines] == [3, 3]
    metrics = tiny_run.evaluate(folder, progress=False)
    assert metrics["macro_f1"] == 1
    assert metrics["per_class"]["square"]["f1"] is None
