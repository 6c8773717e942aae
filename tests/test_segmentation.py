"""Segmentation, whole: folders of masks in, a trained, measured, exported model out."""

from __future__ import annotations

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image, ImageDraw

import tlkit
from tlkit.cli.main import main
from tlkit.commands.lr_find import lr_find
from tlkit.commands.train import resume
from tlkit.data.example import FileLabel
from tlkit.data.feed.augment import augmenter
from tlkit.data.feed.dataset import load_dataset
from tlkit.data.feed.say import resized_text
from tlkit.data.pictures.rendering import PLAIN
from tlkit.errors import DataError, Interrupted, SpecError
from tlkit.evaluate.drawn_answers import DrawnAnswers
from tlkit.planning import rules
from tlkit.progress import Progress
from tlkit.spec.read import asked_spec, make_spec
from tlkit.tasks.registry import TASKS, targets_of, task_of

SIZE = 32


def draw(folder, count=18, seed=0, values=(0, 255), parts=("",)):
    """Write images of a bright rectangle on noise beside their masks; return the folder."""
    random = np.random.default_rng(seed)
    for part in parts:
        for name in ("images", "masks"):
            (folder / part / name).mkdir(parents=True)
        for i in range(count):
            image = Image.fromarray(random.integers(0, 80, (40, 48, 3), dtype=np.uint8))
            mask = Image.new("L", image.size, values[0])
            x, y, side = (int(v) for v in random.integers((0, 0, 16), (26, 18, 26)))
            for own, fill in ((image, (230, 220, 200)), (mask, values[1])):
                ImageDraw.Draw(own).rectangle((x, y, x + side, y + side), fill=fill)
            image.save(folder / part / "images" / f"{i:02d}.png")
            mask.save(folder / part / "masks" / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("data") / "boxes")


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return write_net(tmp_path_factory.mktemp("net"))


def write_net(folder):
    """Write a small network with maps at strides 4 and 8, of 32 x 32 pixels; return its path."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Rescaling(1 / 127.5, -1),
        keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        keras.layers.Conv2D(12, 3, strides=2, padding="same"),
        keras.layers.BatchNormalization(),
        keras.layers.ReLU(),
        keras.layers.Conv2D(16, 3, strides=2, padding="same"),
        keras.layers.ReLU(),
    ]
    path = folder / "net.keras"
    keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers]).save(path)
    return str(path)


def fields(net, **more):
    return {
        "backbone": net, "engine": "keras", "epochs": 12, "optimizer": {"learning_rate": 0.02},
        "decoder": {"channels": 16}, "augmented_copies": 1, "batch_size": 4,
        "progress": False, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(data, net, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "boxes"
    return tlkit.train(data, out=out, **fields(net, regime="small"))


def test_masks_beside_images_are_a_task_and_its_frozen_part_is_kept(run):
    assert run.task.outputs == ("background", "foreground")
    phase = run.metrics["phases"][0]
    assert (phase["name"], phase["features_kept"]) == ("head", True)
    assert run.plan["phases"][0]["views"] == 2
    assert run.spec.mask_values == ["0=background", "255=foreground"]
    test = run.metrics["test"]
    assert test["mean_iou"] > 0.75
    assert test["mean_iou_interval"][0] <= test["mean_iou"] <= test["mean_iou_interval"][1]
    assert set(test["per_class"]["foreground"]) == {"iou", "dice", "pixels"}
    assert run.metrics["val"]["mean_iou"] > 0.6
    rows = (run.folder / "predictions.csv").read_text().splitlines()
    assert rows[0] == "id,mean_iou,iou_background,iou_foreground"
    assert len(rows) == 1 + test["examples"]
    assert (run.folder / "worst.png").stat().st_size > 5000


def test_the_delivered_model_loads_with_plain_keras_and_its_metric_is_that_of_training(run, data):
    loaded = keras.models.load_model(run.folder / "model.keras", compile=False)
    assert loaded.output_shape == (None, SIZE, SIZE, 2)
    assert run.evaluate(progress=False)["mean_iou"] == run.metrics["test"]["mean_iou"]
    prepared = load_dataset(run.spec, {}, Progress(quiet=True))
    part = prepared.examples("val", run.task.encode)
    images = np.concatenate([x for x, _ in part.batches(range(len(part)))])
    metric, found = run.task.keras_metric(), run.task.evaluator()
    targets, outputs = part.targets[: len(part)], loaded.predict(images, verbose=0)
    metric.update_state(targets, outputs)
    val = prepared.split.val
    found.update([e.id for e in val], [e.label for e in val], targets, outputs)
    assert float(metric.result()) == pytest.approx(found.result()["mean_iou"], abs=1e-5)
    assert run.metrics["val"]["mean_iou"] == pytest.approx(found.result()["mean_iou"], abs=1e-5)


class Stop(keras.callbacks.Callback):
    """Ctrl-C at the end of an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.full  # as the toy dense task does, always
def test_a_stopped_run_goes_on_to_the_same_numbers(run, data, net, tmp_path):
    with pytest.raises(Interrupted):
        tlkit.train(data, out=tmp_path / "run", callbacks=[Stop()], **fields(net, regime="small"))
    resumed = resume(tmp_path / "run", progress=False)
    assert resumed.metrics["test"] == run.metrics["test"]
    assert (resumed.folder / "predictions.csv").read_text() == (
        run.folder / "predictions.csv"
    ).read_text()


@pytest.mark.full
def test_fine_tuning_follows_the_head_from_kept_maps_at_the_cut(data, net, tmp_path):
    how = fields(net, freeze="until=block_2", epochs=2, optimizer={"learning_rate": 1e-3})
    made = tlkit.train(data, out=tmp_path / "run", **how)
    phases = made.metrics["phases"]
    assert [(p["name"], p["features_kept"]) for p in phases] == [("head", True), ("finetune", True)]
    assert phases[1]["trainable_parameters"] > phases[0]["trainable_parameters"]
    best = max(p["best_val"] for p in phases)
    assert made.metrics["val"]["mean_iou"] == pytest.approx(best, abs=1e-6)


@pytest.mark.full
def test_rates_are_tried(data, net):
    how = {k: v for k, v in fields(net).items() if k not in ("epochs", "optimizer")}
    assert len(lr_find(data, steps=10, regime="small", **how).rates) == 10


def test_compare_ranks_and_a_plan_is_estimated(data, net):
    how = {k: v for k, v in fields(net).items() if k not in ("backbone", "epochs", "optimizer")}
    found = tlkit.compare(data, [net], budget="3m", regime="small", epochs=2, **how)
    assert found.best.logme is None
    assert 0 < found.best.probe <= 1
    assert found.test["examples"] > 0
    assert "mean IoU" in found.headline
    plan = tlkit.plan(data, **fields(net))
    numbers = 8 * 8 * 12 + 4 * 4 * 16
    kept = 18 + plan.examples  # the second views of training images
    assert plan.estimate["phases"][0]["disk"] == 4 * numbers * kept


# Data that are told apart


def cli(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def test_the_task_is_told_and_another_can_be_asked_for(data, net, tmp_path):
    result = cli("plan", data, "--backbone", net)
    assert result.exit_code == 0, result.output
    assert "the task is segmentation (another: --set task=NAME)" in " ".join(result.output.split())
    result = cli("plan", data, "--backbone", net, "--set", "task=classification")
    assert result.exit_code == 2
    assert "form of data for segmentation" in result.output


def test_a_scan_tells_values_sizes_and_draws_masks(data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "boxes")
    mask = Image.open(copy / "masks" / "00.png").resize((96, 80), Image.Resampling.NEAREST)
    mask.save(copy / "masks" / "00.png")
    result = cli("data", "scan", copy, "--json", "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found["masks"]["values"]) == {"0", "255"}
    assert found["masks"]["taken_for"] == ["0=background", "255=foreground"]
    assert found["resized_masks"] == ["images/00.png"]
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    assert "1 of 18 are of another size than their image, of the same aspect: resized" in (
        resized_text(found["resized_masks"], 18)
    )


@pytest.mark.full
def test_a_preview_draws_masks(data, tmp_path):
    seen = tlkit.preview(data, tmp_path / "seen.png", images=2, draws=1, progress=False)
    assert seen.stat().st_size > 1000


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"mask_values": ["0=a"]}, "mask_values: names the classes. Allowed: 2 to 255"),
        ({"mask_values": ["0:a", "1=b"]}, "mask_values: is written VALUE=NAME"),
        ({"mask_values": ["0=a", "0=b"]}, "mask_values: says twice what a value means"),
        ({"mask_values": ["0=a", "ff0000=b"]}, "mask_values: holds numbers and colours"),
        ({"task": "classification", "mask_values": ["0=a", "1=b"]}, "belongs to the task segm"),
        ({"task": "classification", "decoder": {"kind": "deconv"}}, "decoder.kind: belongs to"),
        ({"head": {"pooling": "max"}}, "head.pooling: a decoder answers for places"),
        (
            {"head": {"solver": "lbfgs"}},
            "head.solver: .*Allowed for segmentation: auto, fit",
        ),
        ({"head": {"hidden": [8]}}, "head.hidden: the head has layers"),
        ({"mixup": 0.2}, "mixup: images are mixed for labels"),
        ({"balance": "weights"}, "balance: an image has many"),
        ({"rare": "drop"}, "rare: an image has many classes"),
        ({"regime": "small", "optimizer": {"block_decay": 0.5}}, "block_decay: has no effect"),
    ],
    ids=str,
)
def test_what_has_no_meaning_is_refused(data, asked, reason):
    with pytest.raises(SpecError, match=reason):
        tlkit.plan(data, **({"task": "segmentation", "progress": False} | asked))


def test_phases_of_decoders_are_fitted_by_adam_on_a_cosine_for_so_many_images(data, net):
    plan = tlkit.plan(data, regime="medium", backbone=net, progress=False)
    assert [(p.name, p.optimizer, p.schedule) for p in plan.phases] == [
        ("head", "adam", "cosine"), ("finetune", "adam", "cosine")
    ]  # fmt: skip
    for examples, copies, epochs in ((20, 12, 140), (199, 5, 14), (5000, 4, 6)):
        assert rules.dense_copies(examples) == copies
        assert rules.decoder_epochs("head", examples).value == epochs
    assert rules.decoder_epochs("finetune", 199).value == 7
    assert rules.decoder_rate("head", "adam", 8).value == pytest.approx(2e-3)
    assert rules.decoder_rate("finetune", "adam", 8).value == pytest.approx(5e-5)
    assert rules.decoder_rate("finetune", "sgd", 8).value == pytest.approx(2.5e-4)
    with pytest.raises(SpecError, match="optimizer.momentum: has no effect: adam has none"):
        asked_spec({"task": "segmentation", "optimizer": {"momentum": 0.5}})


def test_small_batches_unless_others_are_asked_for():
    assert make_spec({"task": "segmentation"}).batch_size == 8
    assert make_spec({"task": "segmentation", "batch_size": 32}).batch_size == 32
    assert make_spec({}).batch_size == 32
    spec = make_spec({"task": "segmentation"})
    assert "batch_size" not in spec.model_fields_set  # it was not asked for


def test_options_of_a_fitted_head_are_no_idle_ones():
    how = {"task": "segmentation", "regime": "small"}
    for more in ({"head": {"dropout": 0.1}}, {"optimizer": {"warmup": 0.2}}, {"augment": "light"}):
        asked_spec(how | more)
    with pytest.raises(SpecError, match="plateau_factor: has no effect: the schedule is cosine"):
        asked_spec(how | {"optimizer": {"plateau_factor": 0.5}})
    with pytest.raises(SpecError, match="head.dropout: has no effect"):
        asked_spec({"task": "classification", "regime": "small", "head": {"dropout": 0.1}})


# Answers


def opened(path):
    """Return mode and pixels of an image."""
    with Image.open(path) as image:
        return image.mode, np.asarray(image)


def test_maps_are_of_the_originals_size_whatever_the_orientation(run, data, tmp_path):
    first = data / "images" / "00.png"
    lying = Image.open(first).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    lying.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    row, turned, bad = run.predict(
        [first, tmp_path / "turned.png", tmp_path / "none.png"],
        masks=tmp_path / "masks",
        overlay=tmp_path / "over",
    )
    assert bad["areas"] is None
    assert bad["mask"] is None
    assert "cannot be read" in bad["error"]
    assert sum(row["areas"].values()) == pytest.approx(1)
    assert turned["areas"] == pytest.approx(row["areas"], abs=1e-3)
    mode, mask = opened(row["mask"])
    assert (mode, mask.shape) == ("P", (40, 48))
    assert (mask == (opened(data / "masks" / "00.png")[1] > 0)).mean() > 0.9
    assert (opened(turned["mask"])[1] == mask).mean() > 0.999
    assert opened(row["overlay"])[1].shape == (40, 48, 3)
    assert (tmp_path / "masks" / "classes.txt").read_text() == "background\nforeground\n"
    with pytest.raises(DataError, match="--masks .*masks: is not empty. Allowed: a new or empty"):
        run.predict(first, masks=tmp_path / "masks")


def test_answers_as_images_are_refused_where_there_are_none_or_one_folder_is_for_both(tmp_path):
    for name in ("masks", "overlay"):
        with pytest.raises(SpecError, match=f"{name}: the answers of the task classification"):
            DrawnAnswers(TASKS["classification"](("a", "b")), PLAIN, **{name: tmp_path / name})
    with pytest.raises(SpecError, match="masks, overlay: each needs a folder of its own"):
        DrawnAnswers(TASKS["segmentation"](("a", "b")), PLAIN, tmp_path, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="--masks .*file: is a file. Allowed: a new or empty fold"):
        DrawnAnswers(TASKS["segmentation"](("a", "b")), PLAIN, tmp_path / "file")


def test_an_export_gives_maps_of_the_originals_size(run, data, tmp_path):
    out = run.export(tmp_path / "served", progress=False)
    served = tf.saved_model.load(str(out)).signatures["serving_default"]
    large = Image.open(data / "images" / "00.png").convert("RGB").resize((90, 61))
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save(tmp_path / "large.jpg", exif=exif, quality=95)
    files = [data / "images" / "00.png", tmp_path / "large.jpg"]
    answers = served(image_bytes=tf.constant([file.read_bytes() for file in files]))
    assert answers["sizes"].numpy().tolist() == [[40, 48], [90, 61]]
    assert answers["label_map"].shape == (2, 90, 61)
    assert answers["class_names"].numpy().tolist() == [b"background", b"foreground"]
    own = run.predict(files, masks=tmp_path / "own")
    for i, (height, width) in enumerate([(40, 48), (90, 61)]):
        label_map = answers["label_map"][i].numpy()
        written = opened(own[i]["mask"])[1]
        assert (label_map[:height, :width] == written).mean() > 0.999
        assert (label_map[height:] == 255).all()
        assert (label_map[:, width:] == 255).all()
    result = cli("predict", out, files[0], "--masks", tmp_path / "cli", "--json")
    assert result.exit_code == 0, result.output
    assert np.array_equal(
        opened(json.loads(result.stdout)[0]["mask"])[1], opened(own[0]["mask"])[1]
    )
    table = cli("predict", out, files[0])
    assert "foreground" in table.output


def test_other_data_are_measured_with_the_values_of_the_run(run, tmp_path):
    other = draw(tmp_path / "other", count=4, seed=5)
    assert run.evaluate(other, progress=False)["mean_iou"] > 0.6
    strange = draw(tmp_path / "strange", count=4, seed=6, values=(0, 1))
    with pytest.raises(DataError, match=r"values that mask_values does not name.*Received: 1 \("):
        run.evaluate(strange, progress=False)
    result = cli("evaluate", run.folder, other)
    assert result.exit_code == 0, result.output
    assert "foreground" in result.output


# Views


def test_masks_of_kept_views_move_as_their_images_do(data):
    """On images that are bright where their masks are."""
    spec = make_spec(
        {"data": str(data), "task": "segmentation", "image_size": SIZE, "augmented_copies": 2,
         "mask_values": ["0=ground", "255=box"]}
    )  # fmt: skip
    prepared = load_dataset(spec, {}, Progress(quiet=True))
    train = prepared.training(task_of(prepared.spec, prepared.source.outputs))
    images = np.concatenate([x for x, _ in train.all_views.batches(range(len(train.all_views)))])
    piped = np.concatenate([y for _, y in train.all_views.batches(range(len(train.all_views)))])
    column = train.all_views.targets[: len(train.all_views)]
    np.testing.assert_array_equal(column, piped)
    bright = images.mean(axis=-1) > 140
    assert (bright == (column == 1)).mean() > 0.98
    first, second = (column[i * len(train) : (i + 1) * len(train)] for i in (0, 1))
    assert (first != second).any(axis=(1, 2)).mean() > 0.7


@pytest.mark.parametrize("level", ["medium", pytest.param("strong", marks=pytest.mark.full)])
def test_pain_7_no_new_value_appears_and_pain_8_a_painted_rectangle_stays_under_its_mask(level):
    canvas = np.full((60, 80, 3), 20, np.uint8)
    mask = np.full((60, 80, 1), 7, np.uint8)
    canvas[15:45, 20:60], mask[15:45, 20:60] = 235, 200
    change = augmenter(level)
    pair = tf.function(lambda seed: (change(canvas, 48, seed), change.mask(mask, 48, seed)))
    agreement = []
    for number in range(16):
        image, moved = (x.numpy() for x in pair(tf.constant([number, 3])))
        assert set(np.unique(moved)) <= {7, 200}
        grey = image.mean(axis=-1)
        agreement.append(((grey > (grey.min() + grey.max()) / 2) == (moved[..., 0] == 200)).mean())
    assert np.median(agreement) > 0.96


def test_a_smaller_mask_is_brought_to_its_image_before_both_are_cropped(data):
    """Else one seed would draw two different crops: it cost 0.13 IoU and nobody complained."""
    task = task_of(make_spec({"task": "segmentation", "image_size": SIZE,
                              "mask_values": ["0=a", "255=b"]}), ("a", "b"))  # fmt: skip
    whole = FileLabel(data / "masks" / "00.png", shape=(40, 48))
    small = data.parent / "small.png"
    Image.open(whole.path).resize((24, 20), Image.Resampling.NEAREST).save(small)
    column = task.encode([whole, FileLabel(small, shape=(40, 48))])
    change, seeds = augmenter("light"), np.array([[3, 4], [3, 4]], np.int32)
    large, little = column.seen_by(change, seeds, SIZE)[[0, 1]]
    assert (large == little).mean() > 0.93


def test_labels_are_read_by_what_the_spec_says():
    spec = make_spec({"task": "segmentation", "mask_values": ["0=a", "3=b", "9=void"]})
    assert targets_of(spec).coding.classes == ("a", "b")


# Large images


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A folder of two images of three by two of those that the run saw, beside their masks."""
    folder = tmp_path_factory.mktemp("large")
    small = draw(folder / "small", 12, seed=5)
    for kind in ("images", "masks"):
        (folder / "data" / kind).mkdir(parents=True)
        files = sorted((small / kind).iterdir())
        for i in range(2):
            pieces = [np.asarray(Image.open(file)) for file in files[6 * i : 6 * i + 6]]
            rows = [np.concatenate(pieces[3 * j : 3 * j + 3], axis=1) for j in range(2)]
            whole = Image.fromarray(np.concatenate(rows))
            whole.save(folder / "data" / kind / f"{i}.png")
    return folder / "data"


def mask_of(row):
    with Image.open(row["mask"]) as image:
        return np.asarray(image)


def test_an_image_of_the_size_of_a_tile_is_answered_as_without(run, large, tmp_path):
    image = next((large.parent / "small" / "images").iterdir())
    plain = run.predict(image, masks=tmp_path / "a")[0]
    told = []

    class Heard(Progress):
        def say(self, label, text):
            told.append(f"{label} {text}")

    tiled = run.predict(image, masks=tmp_path / "b", tile=48, progress=Heard(quiet=True))[0]
    np.testing.assert_array_equal(mask_of(tiled), mask_of(plain))
    assert tiled["areas"] == pytest.approx(plain["areas"], abs=0.02)
    assert "tile no image is larger than 48 pixels: each was answered as a whole" in told


def test_large_images_are_answered_and_measured_in_tiles(run, large, tmp_path):
    plain = run.evaluate(large, progress=False)
    out = tmp_path / "measured"
    words = ["evaluate", str(run.folder), str(large), "--tile", "48", "--json", "--out", str(out)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["mean_iou"] > plain["mean_iou"]
    assert sum(map(sum, found["confusion"])) == 2 * 80 * 144  # pixels of the images
    assert (out / "worst.png").stat().st_size > 1000
    words = ["predict", str(run.folder), str(large / "images"), "--tile", "48", "--json"]
    result = CliRunner().invoke(main, [*words, "--masks", str(tmp_path / "m"), "--overlay",
                                       str(tmp_path / "o")])  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert mask_of(rows[0]).shape == (80, 144)
    assert rows[0]["areas"]["foreground"] == pytest.approx((mask_of(rows[0]) == 1).mean())
    with Image.open(rows[0]["overlay"]) as image:
        assert image.size == (144, 80)


@pytest.mark.full
def test_an_export_answers_in_tiles_too(run, large, tmp_path):
    path = run.export(tmp_path / "onnx", format="onnx", progress=False)
    opened, files = tlkit.open_export(path), sorted((large / "images").iterdir())
    ours = run.predict(files, tile=48, masks=tmp_path / "a")
    theirs = opened.predict(files, tile=48, masks=tmp_path / "b")
    for own, other in zip(ours, theirs, strict=True):
        assert (mask_of(own) == mask_of(other)).mean() > 0.999
    found = opened.evaluate(large, tile=48, progress=False)
    assert found["mean_iou"] == pytest.approx(
        run.evaluate(large, tile=48, progress=False)["mean_iou"], abs=1e-3
    )


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_tiles_are_for_maps_alone_and_not_too_small(command, run, tiny_run, large, image_folder):
    for path, data, tile, words in (
        (tiny_run.folder, image_folder, 64, "tile: the answers of the task classification are no"),
        (run.folder, large, 31, "tile: Allowed: 32 pixels or more. Received: 31"),
    ):
        result = CliRunner().invoke(main, [command, str(path), str(data), "--tile", str(tile)])
        assert result.exit_code == 2
        assert words in " ".join(result.stderr.split())
    with pytest.raises(SpecError, match="tile: Allowed"):
        run.predict(large / "images", tile=0)


def test_a_damaged_image_stops_no_other(run, large, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 60)
    rows = run.predict([tmp_path / "bad.png", large / "images" / "0.png"], tile=48)
    assert rows[0]["error"]
    assert rows[1]["error"] is None
