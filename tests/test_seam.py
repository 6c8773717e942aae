"""What is asked of every task; and a toy dense task, which goes wherever one goes."""

import csv
import dataclasses
import io
import itertools
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from PIL import Image, ImageDraw
from toy_dense import Toy, read_masks

import tlkit
from tlkit.cli.main import main
from tlkit.cli.options import nested
from tlkit.commands.lr_find import lr_find
from tlkit.commands.train import resume
from tlkit.data.annotations import Annotations, Box
from tlkit.data.example import Example, FileLabel
from tlkit.data.feed.augment import augmenter
from tlkit.data.feed.dataset import load_dataset
from tlkit.data.readers.open import READERS, open_source
from tlkit.data.scan.scan import scan
from tlkit.errors import DataError, Interrupted, RunFolderError, SpecError
from tlkit.progress import Progress
from tlkit.spec.parts import HeadSpec
from tlkit.spec.read import make_spec
from tlkit.spec.task_options import FITTED_HEAD, TASK_OPTIONS, TaskOptions
from tlkit.tasks.linear import LinearTask
from tlkit.tasks.pooled import attach, read_by_head
from tlkit.tasks.registry import TASKS, task_from_json, task_of
from tlkit.tasks.task import HEAD_INPUT, Task

SIZE = 32
REFUSED = FITTED_HEAD | dict.fromkeys(
    ("mixup", "cutmix", "augmented_copies", "balance", "optimizer.label_smoothing"),
    ("a toy has no use for it", "left out"),
)


@pytest.fixture(autouse=True, scope="module")
def toy():
    """The toy is in the registry, and a folder is read for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, Toy.name, Toy)
        patch.setitem(TASK_OPTIONS, Toy.name, TaskOptions(fitted=True, refused=REFUSED))
        patch.setitem(READERS, ("folder", "masks"), read_masks)
        yield


def draw_shapes(folder, count=24, seed=0):
    """Write images of a bright disc on noise, each with the mask of its disc."""
    random = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        image = Image.fromarray(random.integers(0, 80, (40, 48, 3), dtype=np.uint8))
        mask = Image.new("L", image.size)
        x, y, side = (int(v) for v in random.integers((0, 0, 14), (28, 20, 24)))
        for own, fill in ((image, (230, 220, 200)), (mask, 255)):
            ImageDraw.Draw(own).ellipse((x, y, x + side, y + side), fill=fill)
        image.save(folder / "images" / f"{i:02d}.png")
        mask.save(folder / "masks" / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


def fields(net, **more):
    rates = {"learning_rate": 0.03}
    return {
        "task": "toy", "backbone": net, "engine": "keras", "epochs": 20, "optimizer": rates,
        "batch_size": 8, "progress": False, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(shapes, net, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "toy"
    return tlkit.train(shapes, out=out, **fields(net, regime="small"))


def test_a_dense_task_is_trained_on_kept_features(run):
    assert [p["method"] for p in run.plan["phases"]] == ["fit"]
    assert run.metrics["phases"][0]["features_kept"]
    assert run.metrics["test"]["iou"] > 0.4


class Stop(keras.callbacks.Callback):
    """Ctrl-C at the end of an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 4:
            raise KeyboardInterrupt


def test_a_stopped_run_goes_on_to_the_same_numbers(run, shapes, net, tmp_path):
    with pytest.raises(Interrupted):
        tlkit.train(shapes, out=tmp_path / "run", callbacks=[Stop()], **fields(net, regime="small"))
    resumed = resume(tmp_path / "run", progress=False)
    assert resumed.metrics["val"] == run.metrics["val"]
    assert list(run.metrics["val"]) == ["loss"]  # it ranks: the task has no other figure
    assert resumed.metrics["test"] == run.metrics["test"]
    for name in ("predictions.csv", "data.json"):
        assert (resumed.folder / name).read_text() == (run.folder / name).read_text()


def test_a_changed_mask_is_seen_by_a_stopped_run_and_by_a_finished_one(shapes, net, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "shapes")
    with pytest.raises(Interrupted):
        tlkit.train(data, out=tmp_path / "run", callbacks=[Stop()], **fields(net, regime="small"))
    kept = (data / "masks" / "00.png").read_bytes()
    Image.new("L", (48, 40)).save(data / "masks" / "00.png")
    with pytest.raises(RunFolderError, match="1 with another label .00.png: "):
        resume(tmp_path / "run", progress=False)
    (data / "masks" / "00.png").write_bytes(kept)
    done = resume(tmp_path / "run", progress=False)
    tested = done.members["test"][0][0]
    Image.new("L", (48, 40)).save(data / "masks" / tested)
    with pytest.raises(DataError, match="its test part is no longer what it was: 1 with another"):
        done.evaluate(progress=False)


def test_blocks_are_fine_tuned_after_a_fitted_head_on_augmented_images(shapes, net, tmp_path):
    how = fields(net, regime="medium", augment="strong", epochs=1)
    made = tlkit.train(shapes, out=tmp_path / "run", **how)
    assert [(p["name"], p["method"]) for p in made.plan["phases"]] == [
        ("head", "fit"), ("finetune", "fit")
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((made.folder / "log.csv").read_text())))
    assert {row["phase"] for row in rows} == {"head", "finetune"}
    assert list(rows[0])[2:4] == ["loss", "val_loss"]
    assert (made.folder / "curves.png").stat().st_size > 1000


def test_a_run_is_evaluated_as_it_was_measured_and_on_other_data(run, tmp_path):
    found = run.evaluate(out=tmp_path / "own", progress=False)
    assert {k: found[k] for k in run.metrics["test"]} == run.metrics["test"]
    files = {path.name for path in (tmp_path / "own").iterdir()}
    assert files == {"metrics.json", "predictions.csv", "iou.png"}
    other = run.evaluate(draw_shapes(tmp_path / "other", count=4, seed=1), progress=False)
    assert other["examples"] == 4
    assert other["iou"] > 0.3


def test_both_views_are_averaged_with_the_mirrored_answer_mirrored_back(run):
    images = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    mirrored = run.model.predict(images[:, :, ::-1], verbose=0)[:, :, ::-1]
    expected = (run.model.predict(images, verbose=0) + mirrored) / 2
    found = run.answering(tta=True).predict(images, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_images_are_predicted_and_a_broken_one_is_named(run, shapes, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    image = shapes / "images" / "00.png"
    good, bad = run.predict([image, tmp_path / "broken.png"])
    assert 0 < good["areas"]["shape"] < 1
    assert bad["areas"] is None
    assert bad["error"].startswith("not an image")
    table = tmp_path / "areas.csv"
    words = ["predict", str(run.folder), str(image)]
    for more in ([], ["--json"], ["--csv", str(table)]):
        result = CliRunner().invoke(main, [*words, *more])
        assert result.exit_code == 0, result.stderr
    assert table.read_text().splitlines()[0] == "path,areas_shape,error"
    result = CliRunner().invoke(main, ["evaluate", str(run.folder)])
    assert result.exit_code == 0, result.stderr
    assert f"IoU {run.metrics['test']['iou']:.3f}, on 4" in result.stdout


def test_an_export_answers_with_masks_as_the_run_does(run, shapes, tmp_path):
    out = run.export(tmp_path / "served", progress=False)
    content = (shapes / "images" / "00.png").read_bytes()
    served = tf.saved_model.load(str(out)).signatures["serving_default"]
    answers = served(image_bytes=tf.constant([content]))
    assert {name: tuple(x.shape) for name, x in answers.items()} == {
        "masks": (1, SIZE, SIZE, 1), "areas": (1, 1)
    }  # fmt: skip
    own = run.predict(shapes / "images" / "00.png")[0]
    assert float(answers["areas"][0, 0]) == pytest.approx(own["areas"]["shape"])
    result = CliRunner().invoke(main, ["predict", str(out), str(shapes / "images"), "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[0]["areas"]["shape"] == pytest.approx(own["areas"]["shape"])


@pytest.mark.full  # segmentation goes through it always
def test_compare_ranks_heads_that_are_fitted(shapes, net):
    how = {"task": "toy", "image_size": SIZE, "engine": "keras", "regime": "small"}
    how["optimizer"] = {"learning_rate": 0.03}
    asked = [net, "MobileNet:alpha=0.25,weights=none"]
    found = tlkit.compare(shapes, asked, budget="5m", progress=False, **how)
    assert found.best.label == net
    assert [e.logme for e in found.entries] == [None, None]
    assert found.entries[0].probe < found.entries[1].probe  # the loss
    assert found.test["iou"] > 0


def test_data_that_no_reader_has_for_a_task_is_refused(net):
    images = np.full((4, SIZE, SIZE, 3), 128, np.uint8)
    with pytest.raises(DataError, match="the task toy. Allowed: annotations, dataset, folder"):
        tlkit.plan((images, [0, 1, 0, 1]), **fields(net))


def test_data_cannot_be_prepared_where_labels_cannot_be_written(shapes, tmp_path):
    with pytest.raises(DataError, match="labels of the task toy cannot be written"):
        tlkit.prepare_data(shapes, tmp_path / "out", task="toy", progress=False)
    assert not (tmp_path / "out").exists()


def test_data_are_scanned_and_previewed_and_rates_are_tried(shapes, net, tmp_path):
    result = CliRunner().invoke(main, ["data", "scan", str(shapes), "--set", "task=toy", "--json"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["files"]["usable"] == 24
    how = {"task": "toy", "image_size": SIZE, "augment": "light", "progress": False}
    seen = tlkit.preview(shapes, tmp_path / "seen.png", images=2, draws=2, **how)
    assert seen.stat().st_size > 1000
    how = {k: v for k, v in fields(net, regime="small").items() if k != "epochs"}
    del how["optimizer"]
    assert len(lr_find(shapes, steps=10, **how).rates) == 10


def test_the_estimate_counts_maps_that_are_kept(run):
    kept = run.plan["estimate"]["phases"][0]["disk"]
    assert kept == 24 * 8 * 8 * 16 * 4


# Masks


def example(folder, image, mask):
    image.save(folder / "image.png")
    mask.save(folder / "mask.png")
    return Example("image.png", FileLabel(folder / "mask.png"), path=folder / "image.png")


def test_an_example_hangs_on_its_image_and_on_its_mask(tmp_path):
    found = example(tmp_path, Image.new("RGB", (4, 4)), Image.new("L", (4, 4)))
    assert found.files == (tmp_path / "image.png", tmp_path / "mask.png")
    assert Example("a", "class", path=tmp_path / "a").files == (tmp_path / "a",)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("size", "its mask mask.png is of 3 x 4 pixels, the image of 4 x 4"),
        ("damaged", "its mask mask.png: truncated or corrupt PNG"),
        ("gone", "its mask mask.png: cannot be read"),
        ("turned", "it is turned by its EXIF orientation: whether its mask mask.png"),
    ],
)
def test_an_image_whose_mask_cannot_be_used_is_left_out_with_the_reason(case, reason, tmp_path):
    image = Image.effect_noise((4, 4), 50).convert("RGB")
    found = example(tmp_path, image, Image.new("L", (3 if case == "size" else 4, 4)))
    path = tmp_path / "mask.png"
    if case == "damaged":
        path.write_bytes(path.read_bytes()[:40])
    elif case == "gone":
        path.unlink()
    elif case == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "image.png", exif=exif)
    made = scan([found], Progress(quiet=True))
    assert made.digests == {}
    assert made.left_out["image.png"].startswith(reason)


def test_a_mask_that_changes_while_it_is_read_is_told_and_not_used(shapes, net, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "shapes")
    spec = make_spec({"data": str(data), "task": "toy", "image_size": SIZE})
    prepared = load_dataset(spec, {}, Progress(quiet=True))
    train = prepared.examples("train", task_of(spec, ("shape",)).encode)
    assert train.targets[:2].shape == (2, SIZE, SIZE, 1)
    first = prepared.split.train[0].id
    Image.new("L", (48, 40)).save(data / "masks" / first)
    told = pytest.raises(DataError, match="changed while tlkit was reading")
    with told, prepared.reading.told():
        list(train.batches(range(len(train))))
    with told, prepared.reading.told():
        train.targets[:1]


def test_a_mask_of_colours_is_refused(tmp_path):
    found = example(tmp_path, Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), (9, 0, 0)))
    column = Toy(("shape",), 8).encode([found.label])
    with pytest.raises(DataError, match="must hold one number a pixel.*Received: colours"):
        column[[0]]


@pytest.mark.parametrize("level", ["light", "medium", "strong"])
def test_augmentation_moves_a_mask_as_it_moves_its_image(level):
    """On an image that is its own mask: a disc that is white on black."""
    disc = Image.new("L", (90, 70))
    ImageDraw.Draw(disc).ellipse((25, 20, 60, 50), fill=255)
    mask = np.asarray(disc)[..., None]
    image = np.repeat(mask, 3, axis=-1)
    change = augmenter(level)
    pair = tf.function(lambda seed: (change(image, 64, seed), change.mask(mask, 64, seed)))
    shares, agreement = [], []
    for number in range(24):
        changed, moved = pair(tf.constant([number, 7]))
        assert set(np.unique(moved)) <= {0, 255}
        grey = np.asarray(changed).mean(axis=-1)
        bright = grey > (grey.min() + grey.max()) / 2
        inside = np.asarray(moved)[..., 0] > 0
        shares.append(inside.mean())
        agreement.append((bright == inside).mean())
    assert np.ptp(shares) > 0.05  # the disc is larger and smaller
    # Solarising turns light into dark, and erasing paints over: neither moves anything.
    assert np.median(agreement) > 0.97
    assert level == "strong" or min(agreement) > 0.95


# What every task has to do

LABELS = {
    "classification": (("ant", "bee", "cat"), ["ant", "cat", "bee", "ant"]),
    "multilabel": (("a", "b"), [("a",), (), ("a", "b"), ("b",)]),
    "regression": (("x", "y"), [(1.0, 2.0), (0.0, -3.0), (4.0, 1.5), (2.0, 2.0)]),
    "localisation": (
        ("ant", "bee"),
        [
            Annotations((Box(name, corners),), 40, 48)
            for name, corners in [
                ("ant", (0, 0, 20, 20)),
                ("bee", (10, 5, 48, 40)),
                ("ant", (30, 8, 40, 30)),
                ("bee", (5, 20, 25, 40)),
            ]
        ],
    ),
    "detection": (
        ("ant", "bee"),
        [
            Annotations(tuple(Box(name, corners) for name, corners in objects), 40, 48)
            for objects in [
                [("ant", (0, 0, 20, 20)), ("bee", (20, 10, 44, 38))],
                [("bee", (10, 5, 48, 40))],
                [],
                [("ant", (5, 20, 25, 40)), ("ant", (30, 0, 45, 18)), ("bee", (24, 20, 48, 40))],
            ]
        ],
    ),
}
"""Outputs, and labels of four examples: a new task adds a row."""

MASKS = {"toy": ("shape",), "segmentation": ("ground", "shape")}
"""Outputs of tasks whose labels are files."""


@pytest.fixture(params=[*TASKS, "toy"])
def contract(request, tmp_path, toy):
    """A task that has seen its training targets, and its labels."""
    fields = {"task": request.param, "image_size": SIZE}
    if request.param in MASKS:
        draw_shapes(tmp_path / "shapes", count=4)
        paths = sorted((tmp_path / "shapes" / "masks").iterdir())
        outputs, labels = MASKS[request.param], [FileLabel(path) for path in paths]
        if request.param != "toy":
            fields["mask_values"] = ["0=ground", "255=shape"]
    else:
        outputs, labels = LABELS[request.param]
    task = task_of(make_spec(fields), outputs)
    return task.fit(task.encode(labels)), labels


@pytest.fixture
def model(contract):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIZE, SIZE, 3))
    stride = min(contract[0].strides, default=4)
    features = keras.layers.Conv2D(6, 3, strides=stride, name="features")(inputs)
    read = read_by_head(contract[0], features, lambda: {stride: features})
    return attach(inputs, read, contract[0], HeadSpec())


def images(count=4):
    return np.random.default_rng(0).uniform(0, 255, (count, SIZE, SIZE, 3)).astype(np.float32)


def test_a_task_is_a_value_that_survives_its_json(contract):
    task, _ = contract
    written = json.loads(json.dumps(task.to_json()))
    assert written["task"] == type(task).name == task.labels.task
    assert task_from_json(written).to_json() == task.to_json()
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.outputs = ()
    assert hash(task) == hash(dataclasses.replace(task))


def test_what_a_task_cannot_do_is_refused_with_its_reason(contract):
    task, refused = type(contract[0]), TASK_OPTIONS[contract[0].name].refused
    linear = issubclass(task, LinearTask)
    cannot = {
        "mixup": "mixup" not in task.mixes,
        "cutmix": "cutmix" not in task.mixes,
        "augmented_copies": not task.keeps_views,
        "balance": task.weights is Task.weights,
        "optimizer.label_smoothing": task.uninformed_loss is Task.uninformed_loss,
        "head.solver": task.solver == "",
        "budget": task.solver == "",
        "head.refit": not linear,
        "head.hidden": not linear,
    }
    assert {name for name, lacks in cannot.items() if lacks} <= set(refused)
    sensible = {"mixup": 0.2, "cutmix": 1.0, "augmented_copies": 1, "balance": "weights"}
    sensible |= {"optimizer.label_smoothing": 0.1, "head.solver": "lbfgs", "budget": "1m"}
    sensible |= {"head.refit": True, "head.hidden": [8]}
    for name in refused.keys() & sensible.keys():
        fields = {"task": task.name, "image_size": SIZE} | nested({name: sensible[name]})
        with pytest.raises(SpecError, match=f"{name}: .* Allowed for {task.name}: "):
            make_spec(fields)


def test_a_target_column_gives_the_same_rows_in_whatever_order(contract):
    task, labels = contract
    column = task.encode(labels)
    assert len(column) == len(labels)
    whole = column[:4]
    np.testing.assert_array_equal(column[np.array([3, 0])], whole[[3, 0]])
    alone = task.encode(labels[2:3])[:1]
    rest = whole[2:3].copy()
    own = tuple(map(slice, alone.shape))  # of a set of objects rows without one are beyond
    np.testing.assert_array_equal(alone, rest[own])
    rest[own] = 0
    assert not rest.any()
    balance = task.balance(column, "none")
    assert (balance.weights, balance.draws) == (None, None)


def test_a_head_has_one_output_and_begins_where_features_are_kept(contract, model, tmp_path):
    task, labels = contract
    assert len(model.outputs) == 1
    assert model.output.dtype == "float32"
    assert task.strides or not model.get_layer(HEAD_INPUT).weights
    names = [layer.name for layer in model.layers]
    new = names[names.index("features") + 1 :]
    known = ("head_", "predictions", "units")
    assert all(name.startswith(known) for name in new), new
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)  # plain Keras
    answers = model.predict(images(), verbose=0)
    np.testing.assert_array_equal(loaded.predict(images(), verbose=0), answers)
    bias = task.bias(task.encode(labels))
    shape = model.get_layer("predictions").get_weights()[1].shape
    assert bias is None or bias.shape == shape


def test_training_lowers_the_loss_and_the_lower_loss_ranks_higher(contract, model):
    task, labels = contract
    metric = task.keras_metric()
    assert (metric is None) == (task.metric == "loss" or task.ranks_whole)
    assert metric is None or metric.name == task.metric
    model.compile(keras.optimizers.Adam(0.01), task.loss(), metrics=[metric] if metric else [])
    targets = task.encode(labels)[:4]
    history = model.fit(images(), targets, epochs=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert task.score(0.1, 0.5) > task.score(0.2, 0.5)


def test_answers_are_measured_alike_in_batches_of_any_size(contract, model, tmp_path):
    task, labels = contract
    outputs, targets = model.predict(images(), verbose=0), task.encode(labels)
    task = task.tuned(lambda: (targets[:4], outputs))
    found = []
    for size in (4, 1):
        own = task.evaluator()
        for start in range(0, 4, size):
            part = slice(start, start + size)
            ids = [f"{i}.png" for i in range(4)[part]]
            own.update(ids, labels[part], targets[part], outputs[part])
        found.append((own.result(), own.rows()))
    assert found[0] == found[1]
    result, rows = found[0]
    assert json.loads(json.dumps(result))["examples"] == 4
    assert rows[0][0] == "id"
    assert len(rows) == 5 or task.finds  # a row for each object
    assert {len(row) for row in rows} == {len(rows[0])}
    assert "4" in task.headline(result)
    own.draw(tmp_path)
    assert any(path.stat().st_size > 1000 for path in tmp_path.glob("*.png"))


def test_an_answer_is_numbers_and_a_prediction_is_json(contract, model):
    task, _ = contract
    outputs = model.predict(images(), verbose=0)
    sizes = keras.ops.convert_to_tensor(np.full((len(outputs), 2), (40, 48), np.int32))
    answers = task.answer(keras.ops.convert_to_tensor(outputs), sizes)
    np.testing.assert_array_equal(answers[task.answers], outputs)
    assert all(np.asarray(x).dtype.kind in "fib" for x in answers.values())
    row = task.decode(outputs[0], 40, 48)
    assert tuple(row) == task.fields
    json.dumps(row)
    twice = task.flip(task.flip(keras.ops.convert_to_tensor(outputs)))
    np.testing.assert_allclose(twice, outputs, atol=1e-6)


def test_labels_are_named_and_spread(contract):
    task, labels = contract
    examples = [Example(f"{i}", label) for i, label in enumerate(labels)]
    targets = task.labels()
    assert len(targets.strata(examples)) == 4
    names = set(itertools.chain.from_iterable(targets.names_in(label) for label in labels))
    assert names in (set(), set(task.outputs))
    assert all(isinstance(label, targets.kind) and hash(label) is not None for label in labels)
    targets.check("data", "test", examples, task.outputs)
    assert (task.labels.task, task.labels.family) in {
        (own.name, own.labels.family) for own in TASKS.values()
    }


def test_mixed_targets_go_into_the_loss(contract, model):
    task, labels = contract
    if not task.mixes:
        return
    mixed = task.soften(task.encode(labels)[:4])
    mixed = 0.3 * mixed + 0.7 * np.roll(mixed, 1, axis=0)
    loss = task.loss()(mixed.astype(np.float32), model.predict(images(), verbose=0))
    assert np.isfinite(np.asarray(loss)).all()


def test_the_form_and_the_family_choose_the_reader(shapes):
    spec = make_spec({"data": str(shapes), "task": "toy", "image_size": SIZE})
    source = open_source(str(shapes), targets=TASKS["toy"].labels(spec.table))
    assert source.outputs == ("shape",)
    assert [e.label.path.name for e in source.parts["train"]] == [f"{i:02d}.png" for i in range(24)]


def test_a_dense_task_has_a_report_of_its_metrics(run):
    text = (run.folder / "report.html").read_text("utf-8")
    iou = run.metrics["test"]["iou"]
    assert f'data-figure="iou" data-value="{iou}"' in text
    assert "What was trained, and why" in text
