"""Exports as single networks: ONNX, LiteRT, OpenVINO; what strangers and tlkit make of them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import CLASSES, TINY, needs_shared, shared_env, write_images

import tlkit
from tlkit.cli.main import main
from tlkit.data.readers.open import image_files
from tlkit.errors import ExportError, ParityError, SpecError
from tlkit.export import exporter, formats, litert, onnx, opened, standalone
from tlkit.export.network import in_float32

NETWORKS = tuple(kind for kind in formats.FORMATS if kind != "savedmodel")
QUICK = [
    pytest.param(kind, marks=pytest.mark.full) if kind == "litert-float16" else kind
    for kind in NETWORKS
]
EXACT = ("onnx", "litert", "openvino")
TOLERANCE = {"litert-float16": 0.02, "litert-int8": 0.2}
"""On images that an export was not checked on: its own limit, which is narrower for half precision,
holds for those of its check alone."""


def invoke(*arguments, code=0):
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def run(unsure_run):
    return unsure_run


@pytest.fixture(scope="module")
def exports(run, tmp_path_factory):
    """Exports by format, each made when it is first asked for."""
    root = tmp_path_factory.mktemp("exports")

    class Exports(dict):
        def __missing__(self, kind):
            # Few images are compared: of 8 bits one of them may be answered otherwise.
            loose = {"agreement": 0.8} if kind == "litert-int8" else {}
            self[kind] = run.export(root / kind, kind, progress=False, **loose)
            return self[kind]

    return Exports()


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """A folder of class folders whose 21 images no run has seen."""
    return write_images(tmp_path_factory.mktemp("unseen") / "new", count=7, seed=5)


@pytest.fixture(scope="module")
def expected(run, unseen):
    return run.predict(unseen)


def numbers(rows):
    return np.array([list(row["probabilities"].values()) for row in rows])


def test_the_run_answers_differently_for_different_images(expected):
    assert numbers(expected).std(axis=0).min() > 0.05


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("alone", [False, True])
def test_predict_reads_the_folder_and_the_file(kind, alone, exports, expected, unseen, tmp_path):
    export = exports[kind]
    if alone:
        name = formats.FORMATS[kind].file
        export = shutil.copy(export / name, tmp_path / f"moved{os.path.splitext(name)[1]}")
        if kind == "openvino":
            shutil.copy(exports[kind] / "model.bin", tmp_path / "moved.bin")
    done = invoke("predict", export, unseen, "--json")
    assert ("cannot be checked" in done.stderr) == alone
    rows = json.loads(done.stdout)
    assert [list(row) for row in rows] == [list(row) for row in expected]
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    atol = TOLERANCE.get(kind, 1e-4)
    np.testing.assert_allclose(numbers(rows), numbers(expected), atol=atol)
    if kind in EXACT:
        assert [row["label"] for row in rows] == [row["label"] for row in expected]


@pytest.mark.parametrize("kind", ["onnx", pytest.param("savedmodel", marks=pytest.mark.full)])
def test_an_export_is_evaluated_as_its_run(kind, run, exports, unseen, tmp_path):
    ours = run.evaluate(unseen, progress=False)
    out = tmp_path / "measured"
    done = invoke("evaluate", exports[kind], unseen, "--json", "--out", out)
    metrics = json.loads(done.stdout)
    assert metrics["seen_in_training"] is None
    assert "whether the run has seen these images is not known" in done.stderr
    assert list(metrics) == list(ours)
    for name in ("accuracy", "loss", "macro_f1"):
        assert metrics[name] == pytest.approx(ours[name], abs=1e-4)
    assert metrics["confusion"] == ours["confusion"]
    assert {file.name for file in out.iterdir()} == {
        *("metrics.json", "predictions.csv", "confusion.png")
    }


def test_what_an_export_cannot_be_asked(exports, unseen):
    done = invoke("evaluate", exports["onnx"], code=2)
    assert "has no test part of its own, as a run has. Allowed: DATA" in done.stderr
    done = invoke("evaluate", exports["onnx"], unseen, "--tta", "flip", code=2)
    assert "is an export, which has it in its graph or not" in done.stderr


# What is inside


def described(kind, folder):
    """Return labels and description as a reader without tlkit finds them in the file."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")
        inside = session.get_modelmeta().custom_metadata_map
        return json.loads(inside["labels"]), json.loads(inside["tlkit"])
    if kind == "openvino":
        import openvino

        network = openvino.Core().read_model(folder / "model.xml")
        found = [network.get_rt_info(["tlkit", key]).value for key in ("labels", "about")]
        return tuple(map(json.loads, found))
    with zipfile.ZipFile(folder / "model.tflite") as archive:
        labels = archive.read("labels.txt").decode().splitlines()
        return labels, json.loads(archive.read("export.json"))


@pytest.mark.parametrize("kind", QUICK)
def test_labels_and_preprocessing_are_inside_and_beside(kind, exports, run):
    labels, inside = described(kind, exports[kind])
    assert labels == list(CLASSES)
    beside = json.loads((exports[kind] / "export.json").read_text())
    assert inside == {k: v for k, v in beside.items() if k not in ("parity", "files")}
    assert beside["format"] == kind
    assert beside["labels"] == labels
    assert beside["input"] == {
        "name": "image", "size": 32, "layout": "NHWC", "channels": "RGB", "range": [0, 255]
    }  # fmt: skip
    assert beside["preprocessing"]["alpha"] == "white"
    assert beside["parity"]["images"] == run.metrics["examples"]["test"]
    limit = formats.FORMATS[kind].tolerance
    assert beside["parity"]["largest_difference"] <= limit
    assert beside["parity"]["tolerance"] == (None if kind == "litert-int8" else limit)


def test_an_onnx_file_has_named_ends_and_any_batch(exports):
    import onnxruntime

    session = onnxruntime.InferenceSession(exports["onnx"] / "model.onnx")
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape, given.type) == ("image", ["batch", 32, 32, 3], "tensor(float)")
    assert (answer.name, answer.shape) == ("probabilities", ["batch", 3])
    assert session.run(None, {"image": np.zeros((5, 32, 32, 3), np.float32)})[0].shape == (5, 3)


def test_an_int8_file_computes_in_integers_throughout(exports):
    from ai_edge_litert.interpreter import Interpreter

    file = exports["litert-int8"] / "model.tflite"
    interpreter = Interpreter(model_path=str(file))
    kinds = {np.dtype(d["dtype"]).name for d in interpreter.get_tensor_details()}
    assert kinds <= {"int8", "uint8", "int32"}
    (given,) = interpreter.get_input_details()
    assert given["dtype"] is np.uint8
    assert file.stat().st_size < 0.6 * (exports["litert"] / "model.tflite").stat().st_size
    with pytest.raises(ExportError, match="tensors stay in floating point, such as"):
        litert.check_integer(exports["litert"] / "model.tflite")


# The model card


STANDALONE = """
import sys
for name in ("tlkit", "keras", "tf_keras", *sys.argv[3].split()): sys.modules[name] = None
script, files = sys.argv[1], sys.argv[2].split("|")
sys.argv = [script, *files]
import runpy
runpy.run_path(script, run_name="__main__")
"""


def standalone_rows(export, files, without):
    arguments = [str(export / "predict.py"), "|".join(map(str, files)), without]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", STANDALONE, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=export,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", [*QUICK, pytest.param("savedmodel", marks=pytest.mark.full)])
def test_the_cards_script_answers_without_tlkit_and_tensorflow(kind, exports, unseen, expected):
    files = image_files(unseen)[:20]
    without = "" if kind == "savedmodel" else "tensorflow"
    rows = standalone_rows(exports[kind], files, without)
    ours = expected[:20]
    assert [row["path"] for row in rows] == [row["path"] for row in ours]
    atol = TOLERANCE.get(kind, 2e-3)  # Pillow's resizing is not TensorFlow's to the last bit
    np.testing.assert_allclose(numbers(rows), numbers(ours), atol=atol)
    if kind != "litert-int8":
        assert [row["label"] for row in rows] == [row["label"] for row in ours]


def test_the_script_reads_files_as_tlkit_does(tmp_path):
    from PIL import Image

    from tlkit.data.pictures.decode import decode
    from tlkit.data.pictures.rendering import Rendering

    random = np.random.default_rng(0)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    base = Image.fromarray(random.integers(0, 256, (9, 7, 4), dtype=np.uint8))
    base.save(tmp_path / "clear.png")
    base.convert("RGB").save(tmp_path / "turned.png", exif=rotated)
    base.convert("RGB").quantize(5).save(tmp_path / "palette.png")
    base.convert("L").save(tmp_path / "grey.png")
    base.convert("RGB").convert("CMYK").save(tmp_path / "four.jpg")
    Image.fromarray(random.integers(0, 4000, (9, 7), dtype=np.uint16)).save(tmp_path / "deep.png")
    for file in sorted(tmp_path.iterdir()):
        for rendering in (Rendering("white", 16), Rendering("black", 12), Rendering("drop", 16)):
            theirs = decode(file.read_bytes(), rendering).numpy().astype(int)
            found = standalone.pixels(file, rendering.alpha, rendering.bits).astype(int)
            assert found.shape == theirs.shape, file
            assert np.abs(found - theirs).mean() < 0.5, (file, rendering)


def test_the_card_has_the_hubs_front_matter_and_the_figures(exports, run):
    import yaml

    text = (exports["onnx"] / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["pipeline_tag"] == "image-classification"
    assert "onnx" in about["tags"]
    (result,) = about["model-index"][0]["results"]
    assert {m["type"]: m["value"] for m in result["metrics"]}["accuracy"] == pytest.approx(
        run.metrics["test"]["accuracy"], abs=1e-4
    )
    assert "pip install numpy pillow onnxruntime" in body
    for label in CLASSES:
        assert f"`{label}`" in body


# What is not kept, not written, not read


def test_a_network_of_other_weights_is_not_kept(run, tmp_path, monkeypatch):
    write = onnx.write

    def write_another(model, *rest):
        other = keras.models.clone_model(model)
        other.set_weights([weights[..., ::-1] for weights in model.get_weights()])
        write(other, *rest)

    monkeypatch.setattr(onnx, "write", write_another)
    done = invoke("export", run.folder, "--format", "onnx", "--out", tmp_path / "x", code=1)
    assert "onnx does not answer as the run does; the export was removed" in done.stderr
    assert not list(tmp_path.iterdir())


def test_eight_bits_that_agree_too_little_are_not_kept(run, tmp_path, monkeypatch):
    monkeypatch.setattr(type(run.task), "agreement", lambda self, expected, got: 0.9)
    with pytest.raises(ParityError, match=r"Agreement: 0.900 of \d images, at least: 0.99"):
        run.export(tmp_path / "x", "litert-int8", progress=False)
    assert not list(tmp_path.iterdir())


def test_what_else_is_answered_is_compared_too(run, tmp_path, monkeypatch):
    write = onnx.write

    def write_less(*given):
        write(*given)
        more = lambda self, x, sizes: {"probabilities": x, "twice": 2 * x}  # noqa: E731
        monkeypatch.setattr(type(run.task), "answer", more)

    monkeypatch.setattr(onnx, "write", write_less)
    with pytest.raises(ParityError, match=r"removed. Otherwise: twice"):
        run.export(tmp_path / "x", "onnx", progress=False)


def test_without_training_images_there_are_no_eight_bits(run, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "known_images", lambda *given: [])
    with pytest.raises(ExportError, match="needs the run's training images to measure ranges on"):
        run.export(tmp_path / "x", "litert-int8", progress=False)


@pytest.mark.parametrize(
    ("kind", "modules", "extra"),
    [
        ("onnx", "onnxruntime and tf2onnx", "onnx"),
        ("litert-int8", "ai_edge_litert", "litert"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(
    kind, modules, extra, run, exports, unseen, tmp_path, monkeypatch
):
    found = formats.importlib.util.find_spec
    gone = ("onnxruntime", "tf2onnx", "ai_edge_litert", "openvino")
    monkeypatch.setattr(
        formats.importlib.util, "find_spec", lambda name: None if name in gone else found(name)
    )
    said = f"needs {modules}, not installed here. Install: pip install 'tlkit[{extra}]'"
    done = invoke("export", run.folder, "--format", kind, "--out", tmp_path / "x", code=2)
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
    done = invoke("predict", exports[kind], unseen, code=2)
    assert f"needs {modules.split()[0]}, not installed here" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "onyx"], "format: unknown. Did you mean 'onnx'? Allowed: savedmodel, onnx, "),
        (
            ["--format", "onnx", "--serving-version", "1"],
            "--serving-version: is for TensorFlow Serving, which reads savedmodel alone. "
            "Received: --format onnx",
        ),
        (
            ["--format", "onnx", "--agreement", "0.9"],
            "--agreement: has no effect on onnx, whose numbers are compared. Allowed: with "
            "litert-int8. Received: 0.9",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, said, run, tmp_path):
    done = invoke("export", run.folder, "--out", tmp_path / "x", *arguments, code=2)
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_serving_version_is_a_folder_of_its_own(tmp_path):
    assert exporter.target_of(tmp_path, "savedmodel", 3, None) == tmp_path / "3"
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "saved_model.pb").write_bytes(b"of another day")
    with pytest.raises(ExportError, match="3: is not empty"):
        exporter.target_of(tmp_path, "savedmodel", 3, None)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("serving_version", 0, "--serving-version: must be 1 or more. Received: 0"),
        ("agreement", 1.5, "--agreement: must lie above 0, up to 1. Received: 1.5"),
    ],
)
def test_values_out_of_range_are_refused_in_python_too(option, value, said, run, tmp_path):
    kind = "litert-int8" if option == "agreement" else "savedmodel"
    with pytest.raises(SpecError, match=said):
        run.export(tmp_path / "x", kind, progress=False, **{option: value})


def test_a_changed_file_is_not_answered_with(exports, unseen, tmp_path):
    def said(kind, change):
        folder = shutil.copytree(exports[kind], tmp_path / f"{kind}-{change.__name__}")
        change(folder)
        return invoke("predict", folder, unseen, code=2).stderr

    def other_labels(folder):
        file = folder / "export.json"
        file.write_text(file.read_text().replace("disc", "bean"))

    def no_json(folder):
        (folder / "export.json").write_text("{")

    def a_list(folder):
        (folder / "export.json").write_text("[]")

    def cut(folder):
        for file in folder.glob("model.*"):
            file.write_bytes(file.read_bytes()[:-40])

    def no_weights(folder):
        (folder / "model.bin").unlink()

    different = "export.json and model.onnx say different things"
    assert different in said("onnx", other_labels)
    assert "export.json is damaged" in said("openvino", no_json)
    assert "export.json is damaged: it is no description" in said("litert", a_list)
    assert "model.onnx: damaged, missing, or of another export" in said("onnx", cut)
    assert "model.bin: damaged, missing, or of another export" in said("openvino", no_weights)


def test_files_of_others_are_refused(exports, unseen, tmp_path):
    import onnx as onnx_package

    def said(name, content=None):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        return invoke("predict", tmp_path / name, unseen, code=2).stderr

    for name in ("a.onnx", "a.tflite", "a.xml"):
        assert f"{name}: cannot be opened: " in said(name, b"no network")
    proto = onnx_package.load(str(exports["onnx"] / "model.onnx"))
    about = next(p for p in proto.metadata_props if p.key == "tlkit")
    about.value = "{}"
    assert "what it says of itself is damaged" in said("b.onnx", proto.SerializeToString())
    about.value = "{"
    assert "what it says of itself is damaged" in said("c.onnx", proto.SerializeToString())
    del proto.metadata_props[:]
    assert "was not written by tlkit export" in said("d.onnx", proto.SerializeToString())
    assert "is no folder" in said("missing.onnx")
    with pytest.raises(ExportError, match="is none. Allowed: a folder with one of saved_model.pb"):
        tlkit.open_export(tmp_path)


@pytest.mark.full
def test_an_export_of_an_earlier_version_predicts_but_is_not_evaluated(exports, unseen, tmp_path):
    folder = shutil.copytree(exports["savedmodel"], tmp_path / "old")
    file = folder / "export.json"
    file.write_text(file.read_text().replace("disc", "bean"))
    assert (
        "export.json is not of this SavedModel" in invoke("predict", folder, unseen, code=2).stderr
    )
    file.unlink()
    assert json.loads(invoke("predict", folder, unseen, "--json").stdout)[0]["label"] in CLASSES
    done = invoke("evaluate", folder, unseen, code=2)
    assert "was made by an earlier version and has no export.json" in done.stderr


# TensorFlow Serving's folder, and bench


@pytest.mark.full
def test_serving_versions_stand_side_by_side(run, unseen, expected, tmp_path):
    out = tmp_path / "flowers"
    (out / "2").mkdir(parents=True)
    (out / "2" / "saved_model.pb").write_bytes(b"of another day")
    done = invoke("export", run.folder, "--out", out, "--serving-version", 1)
    assert str(out / "1") in done.stdout
    assert (out / "1" / "saved_model.pb").is_file()
    done = invoke("export", run.folder, "--out", out, "--serving-version", 2, code=2)
    assert "is not empty" in done.stderr
    rows = tlkit.open_export(out / "1").predict(unseen)
    np.testing.assert_allclose(numbers(rows), numbers(expected), atol=1e-4)


def test_bench_sets_exports_side_by_side(run, exports, unseen):
    paths = [exports["onnx"], exports["litert-int8"]]
    done = invoke("bench", *paths, "--data", unseen, "--batch-size", 4, "--json")
    rows = json.loads(done.stdout)
    assert [row["path"] for row in rows] == list(map(str, paths))
    assert [row["format"] for row in rows] == ["onnx", "litert-int8"]
    for row, path in zip(rows, paths, strict=True):
        assert row["latency_ms"] > 0
        assert row["images_per_second"] > 0
        assert row["batch_size"] == 4
        files = json.loads((path / "export.json").read_text())["files"]
        size = sum((path / name).stat().st_size for name in files)
        assert row["megabytes"] == pytest.approx(size / 1e6, abs=1e-3)
    ours = run.evaluate(unseen, progress=False)
    assert rows[0]["metrics"]["accuracy"] == pytest.approx(ours["accuracy"])
    assert rows[0]["megabytes"] > rows[1]["megabytes"]
    shown = invoke("bench", exports["onnx"], "--batch-size", 2).stdout
    assert "images/s, batches of 2" in shown
    assert "on the data" not in shown


def test_bench_refuses_what_is_no_export(run, exports):
    done = invoke("bench", run.folder, code=2)
    assert "is none. Allowed: what tlkit export wrote" in done.stderr
    done = invoke("bench", exports["onnx"], exports["onnx"], code=2)
    assert "bench: each export once. Received twice" in done.stderr
    assert "does not exist" in invoke("bench", exports["onnx"], "--data", "gone", code=2).stderr


# Other tasks, other precisions


@pytest.fixture(scope="module")
def table(image_folder, tmp_path_factory):
    """A table of images with labels and a number each."""
    file = tmp_path_factory.mktemp("table") / "table.csv"
    rows = ["image,label,bright"]
    for path in image_files(image_folder):
        name = path.parent.name
        labels = name if name != "disc" else "disc|square"
        rows.append(f"{path},{labels},{CLASSES.index(name) + len(rows) / 100}")
    file.write_text("\n".join(rows))
    return file


@pytest.mark.full
@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_vector_tasks_go_out_too(task, table, tiny_weights, tmp_path):
    fields = {**TINY, "backbone": {**TINY["backbone"], "weights": tiny_weights}}
    numbers = {"targets": ["bright"]} if task == "regression" else {}
    fields |= {"table": {**numbers, "outside": True}, "regime": "small", "task": task}
    run = tlkit.train(table, out=tmp_path / "run", progress=False, **fields)
    names = run.task.answers
    files = [line.split(",")[0] for line in table.read_text().splitlines()[1::5]]
    ours = run.predict(files)
    for kind in ("onnx", "litert-int8"):
        more = {"agreement": 0.5} if kind == "litert-int8" else {}
        out = run.export(tmp_path / kind, kind, progress=False, **more)
        rows = tlkit.open_export(out).predict(files)
        got, own = ([list(r[names].values()) for r in part] for part in (rows, ours))
        got, own = (np.array(part, np.float32) for part in (got, own))
        assert run.task.agreement(own, got) >= (0.5 if kind == "litert-int8" else 0.999)
        if kind == "onnx":
            np.testing.assert_allclose(got, own, atol=1e-4 * max(1, np.abs(own).max()))
            assert rows[0].get("labels") == ours[0].get("labels")
            alone = standalone_rows(out, files, "tensorflow")
            assert alone[0].get("labels") == ours[0].get("labels")
            assert list(alone[0][names]) == list(ours[0][names])
            test = run.evaluate(progress=False)
            again = tlkit.open_export(out).evaluate(table, progress=False)
            assert set(again) == set(test)


def test_half_precision_is_made_whole():
    keras.utils.set_random_seed(0)
    half = keras.DTypePolicy("mixed_bfloat16")
    x = given = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", dtype=half)(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=half)(x)
    model = keras.Model(given, keras.layers.Dense(2, dtype="float32")(x))
    whole = in_float32(model)
    assert {layer.compute_dtype for layer in whole.layers} == {"float32"}
    assert in_float32(whole) is whole
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    difference = np.abs(model.predict_on_batch(images) - whole.predict_on_batch(images)).max()
    assert 0 < difference < 0.05
    inside = keras.Model(again := keras.Input((8, 8, 3)), model(again))
    whole_inside = in_float32(inside)
    assert whole_inside is not inside
    found = whole_inside.predict_on_batch(images)
    np.testing.assert_allclose(found, whole.predict_on_batch(images), atol=1e-5)


def test_a_small_archive_of_much_is_not_read(exports, tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "LARGEST", 10)
    with pytest.raises(ExportError, match="was not written by tlkit export"):
        opened.open_export(exports["litert"])


@needs_shared("data/flowers12")
@pytest.mark.full
def test_real_networks_agree_on_real_images(tmp_path):
    from conftest import SHARED

    code = (
        "import tlkit, sys; run = tlkit.train(sys.argv[1], out=sys.argv[2], regime='small')\n"
        "for kind in ('onnx', 'openvino', 'litert', 'litert-int8'):\n"
        "    run.export(format=kind)"
    )
    data, out = str(SHARED / "data" / "flowers12"), str(tmp_path / "run")
    subprocess.run([sys.executable, "-c", code, data, out], env=shared_env(), check=True)
    parity = {
        kind: json.loads((tmp_path / "run" / "export" / kind / "export.json").read_text())["parity"]
        for kind in (*EXACT, "litert-int8")  # half precision is refused for these weights
    }
    assert all(found["images"] == 100 for found in parity.values())
    assert all(parity[kind]["largest_difference"] <= 1e-4 for kind in EXACT)
    assert parity["litert-int8"]["agreement"] >= 0.99
