"""The SavedModel: what a client with TensorFlow alone gets, and that a wrong one is never kept."""

import csv
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image

import tlkit
from tlkit.cli.main import main
from tlkit.data.readers.open import image_files
from tlkit.errors import ExportError, ParityError, SpecError
from tlkit.export import foreign as foreign_graph
from tlkit.export import savedmodel

TENSORFLOW_ALONE = """
import sys
sys.modules["tlkit"] = sys.modules["keras"] = None
import json, pathlib
import numpy as np, tensorflow as tf
export, folder = map(pathlib.Path, sys.argv[1:])
signatures = tf.saved_model.load(str(export)).signatures
print(json.dumps({
    name: {
        side: {key: [spec.dtype.name, spec.shape.as_list()] for key, spec in specs.items()}
        for side, specs in (
            ("in", signatures[name].structured_input_signature[1]),
            ("out", signatures[name].structured_outputs),
        )
    }
    for name in signatures
}))
encoded = [path.read_bytes() for path in sorted(folder.glob("image*"))]
answers = {
    "bytes": signatures["serving_default"](image_bytes=tf.constant(encoded)),
    "pixels": signatures["serve_pixels"](images=tf.constant(np.load(folder / "pixels.npy"))),
}
for name, answer in answers.items():
    arrays = {key: np.array(value.numpy().tolist()) for key, value in answer.items()}
    np.savez(folder / f"{name}.npz", **arrays)
"""


@pytest.fixture(scope="module")
def run(unsure_run):
    return unsure_run


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return run.export(tmp_path_factory.mktemp("export") / "served", progress=False)


@pytest.fixture(scope="module")
def files(image_folder, tmp_path_factory):
    """The kinds of files that a client may send, and uint8 pixels of another size."""
    folder = tmp_path_factory.mktemp("client")
    sources = [Image.open(file) for file in image_files(image_folder)[::8]]
    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation: turn by 90 degrees
    sources[0].save(folder / "image0.jpg", exif=rotated)
    sources[1].convert("L").save(folder / "image1.png")
    sources[2].convert("CMYK").save(folder / "image2.jpg")
    sources[3].save(folder / "image3.webp")
    sources[4].save(folder / "image4.png")
    pixels = np.stack([np.asarray(source.resize((50, 70))) for source in sources])
    np.save(folder / "pixels.npy", pixels)
    return folder


@pytest.fixture(scope="module")
def client(exported, files):
    """What a process with TensorFlow alone was told and answered: signatures, bytes, pixels."""
    done = subprocess.run(
        [sys.executable, "-c", TENSORFLOW_ALONE, str(exported), str(files)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), *(np.load(files / f"{n}.npz") for n in ("bytes", "pixels"))


def test_signatures_are_those_promised(client):
    out = {
        "probabilities": ["float32", [None, 3]],
        "label": ["string", [None]],
        "score": ["float32", [None]],
    }
    assert client[0] == {
        "serving_default": {"in": {"image_bytes": ["string", [None]]}, "out": out},
        "serve_pixels": {"in": {"images": ["uint8", [None, None, None, 3]]}, "out": out},
        "serve_resized": {"in": {"images": ["float32", [None, 32, 32, 3]]}, "out": out},
    }


def test_a_client_without_tlkit_gets_the_runs_answers_for_files(client, run, files):
    expected = run.predict(sorted(files.glob("image*")))
    assert [row["error"] for row in expected] == [None] * 5
    assert_answers(client[1], expected)


def test_a_client_without_tlkit_gets_the_runs_answers_for_pixels(client, run, files):
    expected = run.predict(np.load(files / "pixels.npy"))
    assert_answers(client[2], expected)


def assert_answers(got, expected):
    p = np.array([list(row["probabilities"].values()) for row in expected])
    assert p.std(axis=0).max() > 0.05, "the run answers all alike, so nothing is shown"
    np.testing.assert_allclose(got["probabilities"], p, atol=1e-4)
    assert [label.decode() for label in got["label"]] == [row["label"] for row in expected]
    np.testing.assert_allclose(got["score"], p.max(axis=1), atol=1e-4)


def test_the_orientation_tag_is_obeyed(run, files, tmp_path):
    """The rotated file answers as its pixels turned upright do, and not as they lie."""
    upright = Image.open(files / "image0.jpg").transpose(Image.Transpose.ROTATE_270)
    got, expected, lying = run.predict(
        [
            files / "image0.jpg",
            np.asarray(upright),
            np.asarray(Image.open(files / "image0.jpg")),
        ]
    )
    assert got["score"] == pytest.approx(expected["score"], abs=1e-3)
    assert got["score"] != pytest.approx(lying["score"], abs=1e-3)


# Views of an image


@pytest.fixture(scope="module")
def halves(run, files):
    """Pixels of images, and what the run answers for them and for their mirror images."""
    pixels = np.load(files / "pixels.npy")
    parts = [run.predict(seen) for seen in (pixels, pixels[:, :, ::-1])]
    plain, mirrored = ([list(row["probabilities"].values()) for row in part] for part in parts)
    assert np.abs(np.subtract(plain, mirrored)).max() > 1e-3, "a mirror changes nothing here"
    return pixels, np.mean([plain, mirrored], axis=0)


def test_two_views_answer_by_the_mean_over_an_image_and_its_mirror_image(run, halves):
    pixels, expected = halves
    got = [list(row["probabilities"].values()) for row in run.predict(pixels, tta="flip")]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.full
def test_an_export_has_its_views_in_the_graph(run, halves, tmp_path):
    pixels, expected = halves
    out = run.export(tmp_path / "served", tta="flip", progress=False)
    got = savedmodel.SavedModel(out).predict_pixels(pixels)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    done = CliRunner().invoke(main, ["predict", str(out), str(tmp_path), "--tta", "flip"])
    assert done.exit_code == 2
    assert "is an export, which has it in its graph or not" in done.output
    assert "made by tlkit export --tta flip. Received: --tta flip" in done.output


def test_the_command_line_has_views_too(run, files, tmp_path):
    image = sorted(files.glob("image*"))[0]
    expected = run.predict(image, tta="flip")[0]["probabilities"]
    done = CliRunner().invoke(
        main, ["predict", str(run.folder), str(image), "--json", "--tta", "flip"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["probabilities"] == pytest.approx(expected, abs=1e-5)
    out = tmp_path / "served"
    done = CliRunner().invoke(main, ["export", str(run.folder), "--tta", "flip", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "answered alike" in done.output
    got = savedmodel.SavedModel(out).predict_bytes([image.read_bytes()])
    np.testing.assert_allclose(got[0], list(expected.values()), atol=1e-4)


def test_views_are_measured(run):
    one, two = (run.evaluate(tta=tta, progress=False) for tta in (None, "flip"))
    assert one["examples"] == two["examples"]
    assert one["loss"] != pytest.approx(two["loss"], abs=1e-4)
    done = CliRunner().invoke(main, ["evaluate", str(run.folder), "--tta", "flip", "--json"])
    assert json.loads(done.stdout)["loss"] == pytest.approx(two["loss"], rel=1e-4)


@pytest.mark.parametrize("views", [0, 3])
def test_other_numbers_of_views_are_refused(run, views):
    with pytest.raises(SpecError, match=rf"Allowed: tta=flip .*, or left out. Received: {views}"):
        run.evaluate(views=views, progress=False)


def test_what_test_time_augmentation_was_called_before(run, files):
    with pytest.raises(SpecError, match=r"tta: Allowed: flip .*Received: 'rotate'"):
        run.predict(files, tta="rotate")
    with pytest.raises(SpecError, match="Received: 2 and tta=flip"):
        run.predict(files, tta="flip", views=2)
    file = next(files.rglob("*.png"))
    done = CliRunner().invoke(main, ["predict", str(run.folder), str(file), "--views", "2"])
    assert "note      views is called tta from this version on: views=2 is tta=flip" in done.stdout
    assert run.predict(file, views=2) == run.predict(file, tta="flip")


def test_a_run_without_mirror_images_has_one_view(run, files):
    same_side = tlkit.Run(run.files, run.spec.model_copy(update={"mirror": False}))
    for use in (same_side.evaluate, same_side.export, lambda **o: same_side.predict(files, **o)):
        with pytest.raises(
            SpecError, match="which this run excludes .mirror: false.. Allowed: left"
        ):
            use(tta="flip", progress=False)


def test_labels_lie_next_to_the_model_for_a_server(exported):
    labels = json.loads((exported / "assets.extra" / "labels.json").read_text())
    assert labels == ["disc", "square", "stripes"]


def test_an_export_stores_each_weight_once(run, exported):
    stored = sum(file.stat().st_size for file in (exported / "variables").iterdir())
    weights = 4 * run.model.count_params()
    assert weights < stored < 1.1 * weights + 50_000


# Parity


def damage(monkeypatch):
    """Make the exported graph resize in another way than the run does."""

    def nearest(image, size, fit):
        return tf.cast(tf.image.resize(image, (size, size), method="nearest"), tf.float32)

    monkeypatch.setattr(savedmodel, "resize", nearest)


@pytest.mark.full
def test_an_export_that_resizes_otherwise_is_not_kept_and_the_command_ends_with_1(
    run, tmp_path, monkeypatch
):
    damage(monkeypatch)
    arguments = ["export", str(run.folder), "--out", str(tmp_path / "served")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("tlkit: export: serve_pixels does not answer")
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_a_model_with_other_weights_than_the_run_is_not_exported(run, tmp_path, monkeypatch):
    """As if the draft had been written from another model: caught through both signatures."""
    write = savedmodel.write

    def write_another(model, *rest):
        other = tlkit.open_run(run.folder).model
        kernel, bias = other.get_layer("predictions").get_weights()
        other.get_layer("predictions").set_weights([kernel[:, ::-1], bias])
        write(other, *rest)

    monkeypatch.setattr(savedmodel, "write", write_another)
    with pytest.raises(ParityError, match="serving_default"):
        run.export(tmp_path / "served", progress=False)
    assert not list(tmp_path.iterdir())


# The command


def test_an_export_is_never_written_over_something(run, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(ExportError, match="is not empty"):
        run.export(tmp_path, progress=False)
    with pytest.raises(ExportError, match="is a file"):
        run.export(tmp_path / "kept.txt" / "served", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_an_unknown_format_is_named_with_those_allowed(run, tmp_path):
    arguments = ["export", str(run.folder), "--format", "onyx", "--out", str(tmp_path / "x")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Allowed: savedmodel" in result.stderr
    assert "'onyx'" in result.stderr
    assert not (tmp_path / "x").exists()


def test_predict_answers_the_same_from_the_export_as_from_the_run(exported, run, files):
    chosen = [str(path) for path in sorted(files.glob("image*"))]
    both = []
    for model in (run.folder, exported):
        result = CliRunner().invoke(main, ["predict", str(model), *chosen, "--json"])
        assert result.exit_code == 0, result.stderr
        both.append(json.loads(result.stdout))
    for row, export in zip(*both, strict=True):
        for key in ("path", "label", "error"):
            assert export[key] == row[key]
        assert export["probabilities"] == pytest.approx(row["probabilities"], abs=1e-4)


def test_predict_from_an_export_as_csv_and_table(exported, files, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    chosen = [str(files / "image4.png"), str(tmp_path / "broken.jpg")]
    table = tmp_path / "labels.csv"
    result = CliRunner().invoke(main, ["predict", str(exported), *chosen, "--csv", str(table)])
    assert result.exit_code == 0, result.stderr
    good, bad = csv.DictReader(io.StringIO(table.read_text()))
    assert (good["path"], good["error"]) == (chosen[0], "")
    assert float(good[f"p_{good['label']}"]) == pytest.approx(float(good["score"]))
    assert (bad["path"], bad["label"]) == (chosen[1], "")
    assert bad["error"]

    result = CliRunner().invoke(main, ["predict", str(exported), *chosen])
    assert result.exit_code == 0, result.stderr
    assert good["label"] in result.stdout
    assert "1 of 2 files could not be used" in result.stdout


def test_a_folder_that_is_neither_run_nor_export_is_refused(tmp_path):
    result = CliRunner().invoke(main, ["predict", str(tmp_path), "a.jpg"])
    assert result.exit_code == 2
    assert "a folder made by tlkit train or tlkit export" in result.stderr


# The SavedModel of a stranger


class Served(tf.Module):
    """A module that answers as an export does, and first calls `effect` on the images."""

    def __init__(self, effect):
        super().__init__()
        self.bias = tf.Variable([0.2, 0.3, 0.5])
        self.effect = effect

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")])
    def serve_bytes(self, image_bytes):
        with tf.control_dependencies([self.effect(image_bytes)]):
            return {"probabilities": tf.zeros((tf.size(image_bytes), 3)) + self.bias}

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "images")])
    def serve_pixels(self, images):
        return {"probabilities": tf.zeros((tf.shape(images)[0], 3)) + self.bias}


@pytest.fixture
def foreign(exported, tmp_path):
    """Saves a module as the SavedModel of a stranger, with the files that an export has beside."""

    def save(effect):
        module, folder = Served(effect), tmp_path / "foreign"
        signatures = {"serving_default": module.serve_bytes, "serve_pixels": module.serve_pixels}
        tf.saved_model.save(module, str(folder), signatures)
        shutil.copytree(exported / "assets.extra", folder / "assets.extra")
        return as_written(folder)

    return save


def as_written(folder):
    """Give an export hashes of the files that it has now, as whoever changes it can."""
    digests = json.dumps(savedmodel.digests(folder))
    (folder / savedmodel.DIGESTS_FILE).write_text(digests)
    return folder


def inside(effect):
    """The same, one function deeper, in a branch."""
    return lambda x: tf.cond(tf.size(x) > 0, tf.function(lambda: effect(x)), lambda: tf.constant(0))


def as_number(operation):
    with tf.control_dependencies([operation]):
        return tf.constant(0)


EFFECTS = {
    "ReadFile": lambda x: tf.io.read_file("/etc/hostname"),
    "WriteFile": lambda x: tf.io.write_file("/tmp/tlkit-was-here", x[0]),
    "MatchingFiles": lambda x: tf.io.matching_files("/etc/*"),
    "SaveV2": lambda x: tf.raw_ops.SaveV2(
        prefix="/tmp/tlkit-was-here", tensor_names=["x"], shape_and_slices=[""], tensors=[x]
    ),
    "RestoreV2": lambda x: tf.raw_ops.RestoreV2(
        prefix="/tmp/x", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32]
    )[0],
    "EagerPyFunc": lambda x: tf.py_function(lambda y: y, [x], tf.string),
    "PyFuncStateless": lambda x: tf.numpy_function(lambda y: y, [x], tf.string, stateful=False),
    "Abort": lambda x: tf.raw_ops.Abort(),
    "PrintV2": lambda x: tf.print(x, output_stream="file:///tmp/tlkit-was-here"),
    "TextLineDataset": lambda x: tf.data.TextLineDataset("/etc/hostname").reduce(
        0, lambda a, b: a + 1
    ),
}


@pytest.mark.parametrize("operation", EFFECTS)
@pytest.mark.parametrize("deep", [False, True])
def test_a_graph_that_reaches_outside_is_not_loaded(operation, deep, foreign, files, monkeypatch):
    effect = EFFECTS[operation]
    export = foreign(inside(lambda x: as_number(effect(x))) if deep else effect)
    monkeypatch.setattr(tf.saved_model, "load", None)
    done = CliRunner().invoke(main, ["predict", str(export), str(files / "image1.png")])
    assert done.exit_code == 2, done.output
    assert "saved_model.pb: is not loaded" in done.output
    assert f"the operation {operation}" in done.output or "Dataset" in done.output


def test_a_function_that_no_list_names_is_called_all_the_same(foreign):
    export = foreign(EFFECTS["SaveV2"])
    file = export / foreign_graph.GRAPH
    saved = foreign_graph.Proto()
    saved.ParseFromString(file.read_bytes())
    saved.meta_graphs[0].object_graph_def.concrete_functions.clear()
    file.write_bytes(saved.SerializeToString())
    with pytest.raises(ExportError, match="the operation SaveV2"):
        savedmodel.SavedModel(as_written(export))


def test_a_graph_that_only_computes_is_loaded(foreign, files):
    export = foreign(inside(lambda x: tf.strings.length(x[0])))
    done = CliRunner().invoke(main, ["predict", str(export), str(files / "image1.png"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["score"] == pytest.approx(0.5)


def test_other_forms_of_a_graph_are_refused(exported, tmp_path):
    def said(change):
        folder = shutil.copytree(exported, tmp_path / change.__name__)
        change(folder)
        with pytest.raises(ExportError) as told:
            savedmodel.SavedModel(as_written(folder))
        return str(told.value)

    def text(folder):
        (folder / "saved_model.pbtxt").write_text("")

    def large(folder):
        with (folder / "saved_model.pb").open("ab") as file:
            file.truncate(300 << 20)

    def damaged(folder):
        (folder / "saved_model.pb").write_bytes(b"\xff" * 9)

    def changed(change):
        def write(folder):
            saved = foreign_graph.Proto()
            saved.ParseFromString((folder / "saved_model.pb").read_bytes())
            change(saved)
            (folder / "saved_model.pb").write_bytes(saved.SerializeToString())

        write.__name__ = change.__name__
        return write

    def without_objects(saved):
        saved.meta_graphs[0].ClearField("object_graph_def")

    def two_graphs(saved):
        saved.meta_graphs.add().CopyFrom(saved.meta_graphs[0])

    def assets(saved):
        saved.meta_graphs[0].asset_file_def.add().filename = "../../../etc/passwd"

    def unknown(saved):
        saved.meta_graphs[0].graph_def.library.function[0].node_def.add().op = "Own\x1bOp"

    assert "saved_model.pbtxt is not read" in said(text)
    assert "Allowed: 256 MiB. Received: 300 MiB" in said(large)
    assert "is damaged" in said(damaged)
    assert "is not one graph with objects" in said(changed(without_objects))
    assert "is not one graph with objects" in said(changed(two_graphs))
    assert "refers to files of its own" in said(changed(assets))
    assert "the operation Own\\x1bOp" in said(changed(unknown))
