"""What a service is made of: batches, who is let in, images of every task. No process, no HTTP."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import draw_image
from PIL import Image

from tlkit.data.pictures.decode import decode_and_resize
from tlkit.data.pictures.placement import BARS
from tlkit.data.pictures.rendering import PLAIN
from tlkit.errors import RunFolderError
from tlkit.progress import Progress
from tlkit.reporting.saliency import saliency
from tlkit.serving.batching import STANDING_SECONDS, Admission, Batcher, Full, size_of_batch
from tlkit.serving.limits import Limits
from tlkit.serving.located import highest_version, name_of, version_of
from tlkit.serving.model import Served, open_served, warm_up
from tlkit.serving.rest import Asked, Refused
from tlkit.serving.service import Service
from tlkit.serving.upload import extras_of, predictions
from tlkit.spec.parts import HeadSpec
from tlkit.tasks.classification import Classification
from tlkit.tasks.localisation import Localisation
from tlkit.tasks.multilabel import Multilabel
from tlkit.tasks.pooled import attach
from tlkit.tasks.regression import Regression
from tlkit.tasks.segmentation import Segmentation

SIZE = 32
QUIET = Progress(quiet=True)


# Batches


def test_what_has_come_while_one_was_computed_is_the_next_batch():
    begun, go, sizes = threading.Event(), threading.Event(), []

    def function(images, mapped):
        begun.set()
        assert go.wait(30)
        return [(image.sum(), asked) for image, asked in zip(images, mapped, strict=True)]

    batcher = Batcher(function, 8, lambda images, seconds: sizes.append(images))
    found = [batcher.submit(np.full((1, 1, 3), 0.0))]
    assert begun.wait(30)
    found += [batcher.submit(np.full((1, 1, 3), float(i)), i == 3) for i in range(1, 15)]
    gone = batcher.submit(np.zeros((1, 1, 3)))
    assert gone.cancel()
    go.set()
    assert [each.result(30) for each in found] == [(3.0 * i, i == 3) for i in range(15)]
    batcher.stop()
    assert sizes == [1, 8, 4, 2]
    assert [size_of_batch(n) for n in (0, 1, 2, 3, 13, 32)] == [0, 1, 2, 2, 8, 32]


def test_an_error_is_told_to_who_asked_and_the_next_are_answered():
    def function(images, mapped):
        if images.max() > 1:
            raise MemoryError("no room")
        return list(images)

    batcher = Batcher(function, 1, lambda images, seconds: None)
    bad, good = batcher.submit(np.full((1, 1, 3), 9.0)), batcher.submit(np.zeros((1, 1, 3)))
    with pytest.raises(MemoryError, match="no room"):
        bad.result(30)
    assert good.result(30).shape == (1, 1, 3)
    batcher.stop()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_taken_and_a_standing_queue_is_kept_short():
    clock = Clock()
    admission = Admission(Limits(waiting=40), 0.1, clock)

    def come(images=1):
        context = admission.admitted(images)
        context.__enter__()
        return context

    def leave(context):
        context.__exit__(None, None, None)

    burst = [come() for _ in range(40)]
    with pytest.raises(Full):
        come()
    for each in burst[:30]:  # answered ten a second: 0.1 s each, as one alone
        clock.now += 0.1
        leave(each)
    assert admission.inside == 10
    assert clock.now > STANDING_SECONDS
    with pytest.raises(Full):  # the queue has stood for 3 s, and the wait would be a second
        come()
    for each in burst[30:38]:
        clock.now += 0.1
        leave(each)
    last = come()  # 2 before it
    with pytest.raises(Full):
        come()
    for each in (*burst[38:], last):
        leave(each)
    assert admission.inside == 0


def test_times_of_answers_are_learnt():
    clock = Clock()
    admission = Admission(Limits(), 1.0, clock)
    for _ in range(100):
        with admission.admitted(1):
            clock.now += 0.2
    assert admission.alone == pytest.approx(0.2, abs=0.01)
    for _ in range(100):
        with admission.admitted(4):
            clock.now += 0.2
    assert admission.pace == pytest.approx(0.05, abs=0.01)


# Tasks


def served(task, *shape: int, **changes) -> Served:
    """Return what answers with numbers that depend on the image alone."""

    def outputs(images: np.ndarray) -> np.ndarray:
        seeds = images.mean(axis=(1, 2, 3)).round().astype(int)
        rows = [np.random.default_rng(seed).uniform(0.01, 1, shape) for seed in seeds]
        return np.stack(rows).astype(np.float32)

    fields = {"kind": "onnx", "task": task, "size": SIZE, "rendering": PLAIN, "outputs": outputs}
    return Served("toy", 1, **{**fields, "why_no_maps": "an export has none", **changes})


@pytest.fixture
def image() -> bytes:
    """A portrait that lies in its file: EXIF says how it is turned."""
    drawn, file = draw_image("square", np.random.default_rng(0)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn.resize((80, 60)).save(file, "JPEG", exif=exif)
    return file.getvalue()


def answered(what: Served, image: bytes, **extras: bool):
    """Return the row of an upload, and the answer to the same by TensorFlow Serving's form."""
    service = Service(what, Limits(), 0.1)
    asked = {"maps": False, "masks": False, **extras}

    async def both():
        rows = await predictions(service, [("a.jpg", image), ("b", b"")], asked)
        return rows, json.loads(await service.rest(Asked("serving_default", [image], False)))

    try:
        (row, bad), outputs = asyncio.run(both())
    finally:
        service.close()
    assert bad["error"] == "empty file"
    assert set(bad) == set(row)
    return row, outputs["outputs"]


def test_several_labels(image):
    row, outputs = answered(served(Multilabel(("a", "b", "c")), 3), image)
    given = [name for name, p in row["probabilities"].items() if p >= 0.5]
    assert row["labels"] == given
    assert outputs["given"] == [[name in given for name in "abc"]]


def test_numbers(image):
    row, outputs = answered(served(Regression(("kg",)), 1), image)
    assert outputs[0][0] == pytest.approx(row["values"]["kg"])  # one output alone: a plain list


def test_a_box_is_in_pixels_of_the_upright_original(image):
    task = Localisation(("a", "b"), mean=(0.5,) * 4, scale=(1.0,) * 4)

    def outputs(images):
        return np.tile(
            np.float32([0.1, 0.9, 0.5, 0.5, np.log(0.5), np.log(0.25)]), (len(images), 1)
        )

    row, found = answered(served(task, outputs=outputs), image)
    assert row["box"] == pytest.approx([15, 30, 45, 50], abs=0.01)  # of 60 x 80
    assert found["box"][0] == pytest.approx(row["box"], abs=0.01)
    assert found["label"] == [row["label"]] == ["b"]


def test_inputs_may_be_oblong_and_letterboxed(image):
    seen = []
    what = served(Regression(("kg",)), 1, size=(24, 48), rendering=PLAIN._replace(fit="letterbox"))
    what = replace(what, outputs=lambda images: seen.append(images) or images[:, 0, 0, :1])
    row, outputs = answered(what, image)
    assert outputs[0][0] == row["values"]["kg"] == BARS[0]  # bars are left of a portrait
    assert {images.shape for images in seen} == {(1, 24, 48, 3)}
    np.testing.assert_array_equal(seen[0], seen[1])
    assert list(warm_up(what, 2, QUIET)) == [1, 2]


def test_masks_are_of_the_size_of_the_upright_original(image):
    task = Segmentation(("ground", "cat", "dog"), SIZE, ("0", "1", "2"))
    what = served(task, SIZE, SIZE, 3)
    row, outputs = answered(what, image, masks=True)
    mask = Image.open(io.BytesIO(base64.b64decode(row["mask"])))
    assert mask.size == (60, 80)
    assert mask.info["transparency"] == 0
    (numbers,) = np.array(outputs["label_map"])
    np.testing.assert_array_equal(np.array(mask), numbers)
    assert outputs["class_names"] == ["ground", "cat", "dog"]
    assert sum(row["areas"].values()) == pytest.approx(1)


def test_answers_of_the_other_form_have_limits(image):
    what = served(Segmentation(("ground", "cat"), SIZE, ("0", "1")), SIZE, SIZE, 2)
    service = Service(what, replace(Limits(), values=6_000), 0.1)
    with pytest.raises(Refused, match=r"would be 6,848 numbers, .* POST /predict\?masks=true"):
        asyncio.run(service.rest(Asked("serving_default", [image], False)))
    service.close()
    service = Service(what, Limits(), 0.1)
    message = "class_names has inconsistent batch size: 2 expecting: 1|areas .* expecting: 2"
    with pytest.raises(Refused, match=message):
        asyncio.run(service.rest(Asked("serving_default", [image], True)))
    with pytest.raises(Refused, match="maps: an export has none"):
        extras_of({"maps": "true"}, service)
    assert extras_of({"masks": "true", "maps": "false"}, service) == {"masks": True, "maps": False}
    service.close()


def test_a_map_of_what_speaks_for_it(image):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(6, 3, strides=8, padding="same", activation="relu")(inputs)
    task = Classification(("a", "b", "c"))
    model = attach(inputs, x, task, HeadSpec())
    maps = saliency(model)
    what = served(task, outputs=model.predict_on_batch, maps=maps, why_no_maps="")
    row, _ = answered(what, image, maps=True)
    pixels = decode_and_resize(image, SIZE).numpy()[None]
    features, outputs = maps.answer(pixels)
    (heat,) = maps.maps(features, outputs.argmax(axis=1))
    assert row["map"]["explained"] == row["label"] == "abc"[int(outputs.argmax())]
    np.testing.assert_allclose(row["map"]["values"], heat, atol=1e-4)


# What is opened


def test_names_and_versions_are_those_of_folders(tmp_path):
    for version in ("2", "10", "x"):
        (tmp_path / "flowers" / version).mkdir(parents=True)
        (tmp_path / "flowers" / version / "saved_model.pb").touch()
    newest = highest_version(tmp_path / "flowers")
    assert newest == tmp_path / "flowers" / "10"
    assert (name_of(None, newest), version_of(newest)) == ("flowers", 10)
    assert highest_version(tmp_path) == tmp_path
    (tmp_path / "net" / "model.onnx").parent.mkdir()
    (tmp_path / "net" / "model.onnx").touch()
    file = tmp_path / "net" / "model.onnx"
    assert (name_of(None, file), version_of(file)) == ("net", 1)
    assert name_of("own", file) == "own"


@pytest.mark.full
@pytest.mark.parametrize("kind", ["savedmodel", "onnx", "openvino", "litert"])
def test_an_export_of_each_format_is_served(kind, tiny_run, image_folder, tmp_path):
    tiny_run.export(tmp_path / "out", kind, progress=False)
    what = open_served(tmp_path / "out", "shapes", 1, Progress(quiet=True))
    assert set(warm_up(what, 4)) == {1, 2, 4}
    file = sorted(image_folder.rglob("*.png"))[0]
    row, _ = answered(what, file.read_bytes())
    (wanted,) = tiny_run.predict([file])
    assert row["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-4)


# Warm-up


def test_who_answers_otherwise_in_a_batch_is_not_served():
    fine = served(Regression(("kg",)), 1)
    assert list(warm_up(fine, 4, QUIET)) == [1, 2, 4]

    def outputs(images):
        return fine.outputs(images) + 0.1 * (len(images) == 4)

    with pytest.raises(Exception, match="in a batch of 4 is not that to the image alone"):
        warm_up(replace(fine, outputs=outputs), 4, QUIET)
    nothing = replace(fine, kind="run", outputs=lambda images: np.full((len(images), 1), np.nan))
    with pytest.raises(RunFolderError, match="serve toy: is not served"):
        warm_up(nothing, 1, QUIET)
