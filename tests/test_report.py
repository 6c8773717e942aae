"""report.html: its numbers are those of metrics.json, it is whole, and labels stand as text."""

from __future__ import annotations

import csv
import json
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY, reseal, write_images
from PIL import Image

import tlkit
from tlkit.cli.main import main
from tlkit.commands.report import report_at_end
from tlkit.data.example import Example
from tlkit.data.pictures.decode import decode
from tlkit.data.pictures.rendering import PLAIN
from tlkit.data.scan.thumbnail import thumbnail
from tlkit.errors import RunFolderError
from tlkit.features.cache import features_folder
from tlkit.progress import Progress
from tlkit.reporting.page import number
from tlkit.reporting.svg import Axis, Line, plot
from tlkit.tasks.shown import bootstrap, macro_f1_statistic, reliability

HOSTILE = "<script>x</script>"


class Page(HTMLParser):
    """What a report holds: tags, numbers, tables, links."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.figures, self.counts, self.links, self.ids = [], {}, [], [], []
        self.tables, self.words, self.sources, self.alts = [], [], [], []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        if "data-figure" in given:
            self.figures[given["data-figure"]] = given["data-value"]
        if "data-count" in given:
            self.counts.append(int(given["data-count"]))
        if "href" in given:
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "img":
            self.sources.append(given["src"])
            self.alts.append(given["alt"])
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
            self.inside = True

    def handle_endtag(self, tag):
        if tag == "tr":
            self.inside = False

    def handle_data(self, data):
        self.words.append(data)
        if data.strip() and self.inside:
            self.tables[-1][-1].append(data.strip())


def page(run) -> Page:
    return Page((run.folder / "report.html").read_text("utf-8"))


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Images with a CSV of hostile labels and of numbers."""
    folder = write_images(tmp_path_factory.mktemp("labelled") / "shapes", ("disc", "square"))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "size"])
        for i, path in enumerate(sorted(folder.rglob("*.png"))):
            labels = [HOSTILE] if "disc" in path.name else ["a&b", *([HOSTILE] if i % 3 else [])]
            writer.writerow([path.relative_to(folder), "|".join(labels), i / 10])
    return folder / "table.csv"


def train(data, weights, out, **more):
    fields = {**TINY, "backbone": {**TINY["backbone"], "weights": weights}, "regime": "small"}
    return tlkit.train(data, out=out, progress=False, **{**fields, **more})


def test_its_numbers_are_those_of_metrics_json(tiny_run):
    found, test = page(tiny_run), tiny_run.metrics["test"]
    assert float(found.figures["accuracy"]) == test["accuracy"]
    assert float(found.figures["macro F1"]) == test["macro_f1"]
    assert float(found.figures["loss"]) == test["loss"]
    assert int(found.figures["test images"]) == test["examples"]
    assert found.counts == [n for row in test["confusion"] for n in row]
    (classes,) = [t for t in found.tables if t[0][:2] == ["class", "precision"]]
    for name, row in test["per_class"].items():
        (shown,) = [own for own in classes if own[0] == name]
        scores = [number(row[key]) for key in ("precision", "recall", "f1", "support")]
        assert [shown[1], shown[3], *shown[5:]] == scores


def test_cells_of_the_matrix_lead_to_their_images(tiny_run):
    found = page(tiny_run)
    cells = [link.removeprefix("#") for link in found.links if link.startswith("#cell-")]
    confusion = tiny_run.metrics["test"]["confusion"]
    held = {f"cell-{i}-{j}" for i, row in enumerate(confusion) for j, n in enumerate(row) if n}
    assert set(cells) == held
    assert held <= set(found.ids)
    assert {link for link in found.links if not link.startswith("#")} == set()
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    tests = tiny_run.members["test"]
    assert len(found.sources) >= len(tests)
    assert {alt.partition(":")[0] for alt in found.alts} == {id_ for id_, *_ in tests}


def test_it_is_one_file_without_scripts_or_requests(tiny_run):
    text = (tiny_run.folder / "report.html").read_text("utf-8")
    found = page(tiny_run)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert all(source.startswith("data:image/jpeg;base64,") for source in found.sources)
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert found.tags.count("svg") >= 3  # reliability, and loss and metric of the head
    assert "small" in text
    assert f"tlkit evaluate {tiny_run.folder}" in text


def test_labels_are_text_and_numbers_are_told(labelled, tiny_weights, tmp_path):
    run = train(labelled, tiny_weights, tmp_path / "run", task="multilabel")
    text, found, test = (
        (run.folder / "report.html").read_text("utf-8"),
        page(run),
        run.metrics["test"],
    )
    assert "<script" not in text
    assert "&lt;script&gt;x&lt;/script&gt;" in text
    assert HOSTILE in "".join(found.words)
    assert float(found.figures["macro F1"]) == test["macro_f1"]
    assert float(found.figures["mean average precision"]) == test["mean_average_precision"]
    (table,) = [t for t in found.tables if "average precision" in t[0]]
    for name, row in test["per_class"].items():
        (shown,) = [own for own in table if own[0] == name]
        assert shown[1:] == [number(x) for x in row.values()]


def test_of_numbers_the_largest_errors_are_shown(labelled, tiny_weights, tmp_path):
    table = {"targets": ["size"]}
    run = train(labelled, tiny_weights, tmp_path / "run", task="regression", table=table)
    found, test = page(run), run.metrics["test"]
    assert float(found.figures["mean absolute error"]) == test["mae"]
    assert float(found.figures["RMSE"]) == test["rmse"]
    rows = list(csv.reader((run.folder / "predictions.csv").read_text().splitlines()))[1:]
    worst = max(rows, key=lambda row: abs(float(row[1]) - float(row[2])))
    assert found.alts[0].startswith(worst[0])


def test_without_a_test_part_the_validation_is_said_to_be_what_it_is(
    image_folder, tiny_weights, tmp_path
):
    run = train(image_folder, tiny_weights, tmp_path / "run", test=0.0)
    found = page(run)
    assert run.metrics["test"] is None
    assert float(found.figures["accuracy"]) == run.metrics["val"]["accuracy"]
    assert any("There is no test part" in words for words in found.words)


def test_the_command_writes_the_same_again(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run.folder, tmp_path / tiny_run.folder.name)
    before = (folder / "report.html").read_text("utf-8")
    (folder / "report.html").unlink()
    result = call("report", folder)
    assert result.exit_code == 0, result.stderr
    assert str(folder / "report.html") in result.stdout
    after = (folder / "report.html").read_text("utf-8")
    assert after.replace(str(folder), str(tiny_run.folder)) == before


def test_images_that_are_gone_or_others_are_said_to_be_missing(
    image_folder, tiny_weights, tmp_path
):
    data = shutil.copytree(image_folder, tmp_path / "data")
    run = train(data, tiny_weights, tmp_path / "run")
    first, second = (id_ for id_, *_ in run.members["test"][:2])
    (data / first).unlink()
    Image.new("RGB", (40, 48), "red").save(data / second)
    tlkit.report(run, progress=False)
    found = page(run)
    assert not {alt.partition(":")[0] for alt in found.alts} & {first, second}
    assert any("2 images are not shown: they are no longer" in words for words in found.words)
    shutil.rmtree(data)
    result = call("report", run.folder)
    assert result.exit_code == 0, result.stderr
    assert "No images are shown" in result.stdout
    assert not page(run).sources


def test_a_report_is_of_a_finished_run_with_its_own_files(tiny_run, tmp_path):
    assert "is no folder" in call("report", tmp_path / "none").stderr
    folder = shutil.copytree(tiny_run.folder, tmp_path / "run")
    rows = (folder / "predictions.csv").read_text().splitlines()
    (folder / "predictions.csv").write_text("\n".join(rows[:-1]) + "\n")
    result = call("report", folder)
    assert result.exit_code == 2
    assert "predictions.csv is damaged or was replaced" in result.stderr
    reseal(folder)
    result = call("report", folder)
    assert "its rows are not those of the test part" in result.stderr
    (folder / "predictions.csv").write_text("")
    reseal(folder)
    assert "predictions.csv is missing or unreadable" in call("report", folder).stderr
    (folder / "metrics.json").unlink()
    result = call("report", folder)
    assert result.exit_code == 2
    assert "a report is of a finished run" in result.stderr


def test_a_report_that_cannot_be_written_is_no_failure_of_the_run(tiny_run, monkeypatch, capsys):
    def full(*arguments):
        raise RunFolderError("no space")

    monkeypatch.setattr("tlkit.commands.report.write_report", full)
    nothing = SimpleNamespace(digests={}, test=[])
    prepared = SimpleNamespace(scan=nothing, split=nothing, spec=tiny_run.spec)
    report_at_end(prepared, tiny_run.task, tiny_run.files, Progress())
    assert "report.html was not written: no space" in capsys.readouterr().out


def test_runs_of_an_earlier_version_show_what_they_kept(tiny_run, tmp_path):
    folder = shutil.copytree(tiny_run.folder, tmp_path / "run")
    (folder / "data.json").unlink()
    (folder / "digests.json").unlink()
    result = call("report", folder)
    assert result.exit_code == 0, result.stderr
    text = (folder / "report.html").read_text("utf-8")
    assert "made by an earlier version, which kept no labels" in text
    assert float(Page(text).figures["accuracy"]) == tiny_run.metrics["test"]["accuracy"]


def test_many_classes_get_a_table_of_confusions():
    from tlkit.tasks.metrics import classification_metrics
    from tlkit.tasks.shown import Answers
    from tlkit.tasks.vector_reports import class_parts

    names = [f"c{i:02d}" for i in range(40)]
    truth = np.arange(80) % 40
    p = np.full((80, 40), 0.001)
    given = np.where(truth == 3, 5, truth)
    p[np.arange(80), given] = 0.9
    answers = Answers([str(i) for i in range(80)], [names[t] for t in truth], [], p)
    parts = class_parts(classification_metrics(truth, p, names), names, answers, truth, given)
    assert parts[0].rows == [("c03", "c05", 2)]


def test_reliability_is_the_mean_distance_of_bins():
    p = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, False, True])
    found = reliability(p, right)
    assert [n for n, *_ in found.bins] == [2, 4]
    assert found.error == pytest.approx((2 * 0.05 + 4 * 0.2) / 6)


def test_a_bootstrap_interval_holds_the_value_and_is_the_normal_one_of_a_mean():
    random = np.random.default_rng(1)
    values = random.normal(size=400)
    low, high = bootstrap(lambda drawn: drawn @ values / 400, 400)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert bootstrap(lambda drawn: drawn[:, 0], 1) is None
    truth = np.eye(3, dtype=bool)[[0, 0, 1, 2]]
    given = np.eye(3, dtype=bool)[[0, 1, 1, 1]]
    whole = macro_f1_statistic(truth, given)(np.ones((1, 4), np.float32))
    assert whole[0] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_thumbnails_are_upright_as_training_sees_them_and_of_the_same_content(tmp_path):
    path = tmp_path / "a.jpg"
    image = Image.fromarray(
        np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2).repeat(200, 0)
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif)
    whole = decode(path.read_bytes(), PLAIN).numpy()
    for example in (Example("a", "x", path), Example("a", "x", pixels=whole)):
        small = thumbnail(example, PLAIN, 64)
        assert small.size == (50, 64)
        expected = np.asarray(Image.fromarray(whole).resize(small.size), float)
        assert np.abs(np.asarray(small, float) - expected).mean() < 4
    assert thumbnail(Example("a", "x", path), PLAIN, 64, "other") is None
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 8), 300, np.uint16)).save(deep)
    assert np.asarray(thumbnail(Example("d", "x", deep), PLAIN, 64)).max() == 1  # the upper byte


def test_drawings_leave_out_what_is_no_number_and_escape_names():
    text = str(
        plot([Line("a<b", [1, 2, 3], [1.0, float("nan"), 2.0])], Axis("x"), Axis("y&z"), "<it>")
    )
    assert text.count("<circle") == 2
    assert "y&amp;z" in text
    assert "<it>" not in text
    flat = plot([Line("a", [1], [5.0])], Axis("x", log=True, falling=True), Axis("y"), "one point")
    assert "nan" not in str(flat)


def test_metrics_json_is_what_the_report_was_made_of(tiny_run, tmp_path):
    """A figure that is changed in metrics.json changes in the report, and nowhere else."""
    folder = shutil.copytree(tiny_run.folder, tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"]["accuracy"] = 0.123456
    (folder / "metrics.json").write_text(json.dumps(metrics))
    reseal(folder)
    assert call("report", folder).exit_code == 0
    found = Page((folder / "report.html").read_text("utf-8"))
    assert found.figures["accuracy"] == "0.123456"


@pytest.fixture(scope="module")
def mislabelled(image_folder, tiny_weights, tmp_path_factory):
    """A run on shapes of which two discs lie among the squares; the ids of these."""
    folder = tmp_path_factory.mktemp("mislabelled")
    data = shutil.copytree(image_folder, folder / "data")
    for name in ("disc03.png", "disc07.png"):
        (data / "disc" / name).rename(data / "square" / name)
    return train(data, tiny_weights, folder / "run"), {"square/disc03.png", "square/disc07.png"}


def test_an_audit_puts_wrong_labels_first(mislabelled):
    run, wrong = mislabelled
    kept = {path: path.stat().st_mtime_ns for path in features_folder().rglob("*.rows")}
    assert kept
    result = call("report", run.folder, "--audit")
    assert result.exit_code == 0, result.stderr
    now = {path: path.stat().st_mtime_ns for path in features_folder().rglob("*.rows")}
    assert now == kept  # the features are those of the training
    with (run.folder / "label_audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36
    assert {row["id"] for row in rows[:2]} == wrong
    assert {(row["label"], row["suggestion"]) for row in rows[:2]} == {("square", "disc")}
    qualities = [float(row["quality"]) for row in rows]
    assert qualities == sorted(qualities)
    assert {row["part"] for row in rows} == {"train", "val", "test"}
    count = sum(row["label"] != row["suggestion"] for row in rows)
    assert f"{count} of 36 labels are contradicted" in " ".join(result.stdout.split())
    for _ in range(2):  # a later report shows it too
        found = page(run)
        assert "audit" in found.ids
        shown = [alt for alt in found.alts if "labelled square; disc?" in alt]
        assert {alt.partition(":")[0] for alt in shown} >= wrong
        tlkit.report(run, progress=False)


def test_a_list_of_another_run_is_left_aside(mislabelled, tmp_path):
    run, _ = mislabelled
    folder = shutil.copytree(run.folder, tmp_path / "run")
    (folder / "label_audit.csv").write_text("id,part,label,suggestion,quality\nx,train,a,b,0.1\n")
    assert "label_audit.csv is damaged or of another run" in call("report", folder).stdout


def test_an_audit_needs_the_images_as_they_were(mislabelled, tmp_path):
    run, _ = mislabelled
    data, folder = shutil.copytree(run.spec.data, tmp_path / "data"), tmp_path / "run"
    shutil.copytree(run.folder, folder)
    text = (folder / "spec.yaml").read_text()
    (folder / "spec.yaml").write_text(text.replace(str(run.spec.data), str(data)))
    reseal(folder)
    (data / "disc/disc00.png").unlink()
    result = call("report", folder, "--audit")
    assert result.exit_code == 2
    assert "have changed since it was trained" in result.stderr


def test_quality_is_the_agreement_of_an_answer_with_its_label():
    from tlkit.tasks.classification import Classification
    from tlkit.tasks.multilabel import Multilabel
    from tlkit.tasks.regression import Regression

    raw = np.log(np.array([[0.7, 0.2, 0.1]]))
    task = Classification(("a", "b", "c"))
    assert task.label_quality(raw, np.array([1])) == pytest.approx([0.2])
    assert task.suggestion(raw[0]) == "a"
    task = Multilabel(("a", "b"))
    raw = np.array([[2.0, -1.0]])
    assert task.label_quality(raw, np.array([[1.0, 1.0]])) == pytest.approx([1 / (1 + np.e)])
    assert task.suggestion(raw[0]) == "a"
    task = Regression(("x",), mean=(10.0,), scale=(2.0,))
    assert task.label_quality(np.array([[1.0]]), np.array([[14.0]])) == pytest.approx([np.exp(-1)])
    assert task.suggestion(np.array([1.0])) == "12"


def test_maps_stand_beside_the_images_of_mistakes(image_folder, tiny_run, tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Rescaling(1 / 127.5, -1),
        keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="relu"),
        keras.layers.ReLU(name="deep"),
    ]
    keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(tmp_path / "net.keras")
    fields = {"backbone": str(tmp_path / "net.keras"), "engine": "keras", "regime": "small"}
    run = tlkit.train(image_folder, out=tmp_path / "run", progress=False, **fields)
    before = page(run)
    result = call("report", run.folder, "--maps")
    assert result.exit_code == 0, result.stderr
    found = page(run)
    maps = [alt for alt in found.alts if alt.startswith("map of the answer to")]
    assert len(maps) == len(found.alts) - len(before.alts) > 0
    result = call("report", tiny_run.folder, "--maps")  # its last map has one place
    assert result.exit_code == 2
    assert "tells no places apart" in result.stderr


def test_groups_are_measured_each_for_itself(image_folder, tiny_weights, tmp_path):
    path = shutil.copytree(image_folder, tmp_path / "data") / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "camera"])
        for i, image in enumerate(sorted(path.parent.rglob("*.png"))):
            writer.writerow([image.relative_to(path.parent), image.parent.name, f"camera{i % 12}"])
    run = train(path, tiny_weights, tmp_path / "run", table={"group": "camera"})
    (table,) = [t for t in page(run).tables if t[0][:1] == ["group"]]
    assert table[0] == ["group", "images", "accuracy", "95%"]
    assert sum(int(row[1]) for row in table[1:]) == run.metrics["test"]["examples"]
    assert all(row[0].startswith("camera") for row in table[1:])
