"""Engines for what is frozen: Keras's features whichever computes them, and which one is taken."""

from __future__ import annotations

import json
import shutil
import threading

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import SMALL, reseal

import tlkit
from tlkit.cli.main import main
from tlkit.commands.train import resume
from tlkit.compute import compilers, engines
from tlkit.compute.engines import Engine, build, candidates, choose
from tlkit.data.feed.examples import Examples
from tlkit.errors import CacheError, Interrupted, SpecError
from tlkit.evaluate.evaluator import answered, together
from tlkit.features import cache as cache_module
from tlkit.features.batches import FeatureBatches
from tlkit.features.cache import FeatureCache, fill, list_entries
from tlkit.features.cut import Cut, split_at
from tlkit.features.store import FeatureStore, kept_bytes, kept_type
from tlkit.progress import Progress

QUIET = Progress(quiet=True)
CONVERTED = ("openvino", "onnxruntime")
ON_IMAGES = ("keras", "tensorflow", *CONVERTED)


def needs(name: str) -> None:
    if not engines.is_installed(name):
        pytest.skip(f"needs the extra {name}: pip install tlkit[{name}]")


@pytest.fixture(scope="module")
def net(tiny_weights):
    """TINY's backbone with a batch of images (20, 32, 32, 3) of smooth noise, 0-255."""
    base = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None
    )
    base.load_weights(tiny_weights)
    inputs = keras.Input((32, 32, 3))
    x = base(keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.5)(x))
    images = np.random.default_rng(0).uniform(0, 255, (20, 32, 32, 3)).astype(np.float32)
    return keras.Model(inputs, pooled), images


def share(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference as a share of the largest magnitude: what the tolerance is stated in."""
    return float(np.abs(got - expected).max() / np.abs(expected).max())


# The same features


@pytest.mark.parametrize("name", ON_IMAGES)
def test_an_engine_gives_keras_features_in_batches_of_any_size(net, name):
    needs(name)
    model, images = net
    expected = np.asarray(model(images, training=False))
    assert np.ptp(expected, axis=0).max() > 0.01, "these features tell nothing apart"
    function = build(name, model)
    whole, parts = function(images), [function(images[:13]), function(images[13:])]
    again = function(images[::-1])[::-1]
    for got in (whole, np.concatenate(parts), again):
        assert got.dtype == np.float32
        assert share(got, expected) < engines.TOLERANCE["float32"]
    assert not np.shares_memory(parts[0], parts[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_piece_in_half_precision_takes_kept_features(dtype):
    """They are kept as float32; a graph, unlike Keras, takes its own type alone."""
    inputs = keras.Input((6,), dtype=dtype)
    piece = keras.Model(inputs, keras.layers.Dense(4, dtype=dtype)(inputs))
    kept = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    expected, got = (np.asarray(build(n, piece)(kept), np.float32) for n in ("keras", "tensorflow"))
    assert share(got, expected) < engines.TOLERANCE["half"]


@pytest.mark.parametrize("name", CONVERTED)
def test_the_engine_asked_for_is_measured_and_taken(net, name):
    needs(name)
    model, images = net
    engine, function = choose(model, (name,), len(images), images, QUIET)
    assert engine.name == name
    assert engine.images_per_second > 0
    assert share(function(images), model.predict_on_batch(images)) < engines.TOLERANCE["float32"]
    text = engine.describe()
    assert text.startswith(f"{name}, ")
    assert "images/s, largest difference" in text


@pytest.mark.full
@pytest.mark.parametrize("name", ON_IMAGES)
def test_features_at_two_cuts_come_in_one_go(net, name):
    needs(name)
    model, images = net
    inner = model.layers[-2].output
    two = keras.Model(model.input, [model.output, inner])
    engine, function = choose(two, (name,), len(images), images, QUIET)
    assert engine.name == name
    found = function(images)
    expected = [np.asarray(output) for output in two(images, training=False)]
    assert [part.shape for part in found] == [(20, 256), (20, 1, 1, 256)]
    for got, own in zip(found, expected, strict=True):
        assert share(got, own) < engines.TOLERANCE["float32"]


def test_a_network_of_several_inputs_stays_with_keras(capsys):
    pair = [keras.Input((2,)), keras.Input((2,))]
    model = keras.Model(pair, pair[0] + pair[1])
    engine, _ = choose(model, ("tensorflow", "openvino"), 10**6, np.ones((4, 2)), Progress())
    assert engine == Engine("keras")
    assert "several inputs, or too many parameters: left to keras" in capsys.readouterr().out


# The choice


class Disturbed:
    """An engine that is quick and wrong: `by` is added to one feature of one image."""

    def __init__(self, by: float):
        self.by, self.built = by, 0

    def __call__(self, graph):
        self.built += 1
        honest = compilers.by_tensorflow(graph)
        known = {}

        def run(x: np.ndarray) -> np.ndarray:
            key = x.tobytes()
            if key not in known:
                known[key] = np.array(honest(x))
                known[key][0, 0] += self.by
            return known[key]

        return run


@pytest.mark.parametrize("by", [1.0, float("nan")])
def test_a_wrong_engine_is_left_out_however_quick(net, monkeypatch, capsys, by):
    model, images = net
    wrong = Disturbed(by)
    monkeypatch.setitem(engines._COMPILERS, "openvino", wrong)
    engine, _ = choose(model, ("tensorflow", "openvino"), 10**9, images, Progress())
    assert wrong.built == 1
    assert engine.name == "tensorflow"
    assert "openvino differs from Keras by" in capsys.readouterr().out


def test_the_quickest_of_those_that_agree_is_taken(net, monkeypatch):
    model, images = net
    monkeypatch.setitem(engines._COMPILERS, "openvino", Disturbed(0.0))
    engine, _ = choose(model, ("tensorflow", "openvino"), 10**9, images, QUIET)
    assert engine.name == "openvino"
    assert engine.largest_difference < 1e-3


def test_nothing_is_converted_for_few_images(net, monkeypatch):
    model, images = net
    quick = Disturbed(0.0)
    monkeypatch.setitem(engines._COMPILERS, "openvino", quick)
    engine, _ = choose(model, ("tensorflow", "openvino"), 100, images, QUIET)
    assert engine.name == "tensorflow"
    assert not quick.built


def test_a_wrong_engine_asked_for_is_refused_with_its_difference(net, monkeypatch):
    model, images = net
    monkeypatch.setitem(engines._COMPILERS, "openvino", Disturbed(1.0))
    with pytest.raises(SpecError, match=r"engine: openvino differs from Keras by 1, .* keras"):
        choose(model, ("openvino",), 100, images, QUIET)


def test_candidates_by_rule(monkeypatch):
    monkeypatch.setattr(engines, "is_installed", lambda name: True)
    assert candidates("auto", deterministic=False) == ("tensorflow", "openvino")
    assert candidates("auto", deterministic=True) == ("tensorflow",)
    assert candidates("openvino", deterministic=True) == ("openvino",)
    monkeypatch.setattr(engines, "is_installed", lambda name: name != "openvino")
    assert candidates("auto", deterministic=False) == ("tensorflow", "onnxruntime")
    monkeypatch.setattr(engines, "_has_gpu", lambda: True)
    assert candidates("auto", deterministic=False) == ("tensorflow",)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert candidates("auto", deterministic=False) == ("keras",)


def test_on_another_backend_only_keras_may_be_asked_for(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    engines.check_engine("keras")
    with pytest.raises(SpecError, match=r"engine: openvino needs Keras on TensorFlow.*auto, keras"):
        engines.check_engine("openvino")


# The command line


def test_an_engine_that_is_not_installed_names_the_extra(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "MODULES", {"openvino": ("no_such_module",)})
    out = tmp_path / "run"
    command = ["train", str(image_folder), "--engine", "openvino", "--out", str(out)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "pip install tlkit[openvino]" in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not out.exists()


def test_an_unknown_engine_is_refused(image_folder):
    result = CliRunner().invoke(main, ["train", str(image_folder), "--engine", "warp"])
    assert result.exit_code == 2
    assert "engine" in result.output
    assert "openvino" in result.output


# Whole runs


@pytest.fixture
def train(image_folder, tmp_path, monkeypatch):
    """Train the small network on the generated images, with a cache of its own."""
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))

    def make(name: str, **fields):
        fields = {"regime": "small", "progress": False, **SMALL, "engine": "auto", **fields}
        return tlkit.train(image_folder, out=tmp_path / name, **fields)

    return make


@pytest.fixture
def entries(tmp_path):
    """Return the engines named in the titles of the cache's entries."""
    return lambda: sorted(
        entry.title.split(", ")[-1] for entry in list_entries(tmp_path / "cache" / "features")
    )


def test_engines_keep_their_features_apart_and_end_alike(train, entries):
    names = ["keras", next(filter(engines.is_installed, CONVERTED), "tensorflow")]
    first, other = (train(name, engine=name) for name in names)
    assert entries() == sorted(engines.release(name) for name in names)
    assert first.metrics["prefix"]["name"] == "keras"
    assert other.metrics["prefix"]["name"] == names[1]
    assert other.metrics["prefix"]["images_per_second"] > 0
    assert 0 <= other.metrics["prefix"]["largest_difference"] < 1
    for value in ("accuracy", "loss"):
        expected = pytest.approx(first.metrics["val"][value], rel=1e-2, abs=1e-4)
        assert other.metrics["val"][value] == expected
    # Its features are there: no trial, though these images are too few to convert for.
    assert train("third").metrics["prefix"]["name"] == names[1]


@pytest.mark.full
def test_a_deterministic_run_takes_tensorflow_untried(train, monkeypatch):
    monkeypatch.setattr(engines, "CONVERSION", dict.fromkeys(CONVERTED, 0.0))
    monkeypatch.setitem(engines._COMPILERS, "openvino", Disturbed(0.0))
    assert train("run", deterministic=True).metrics["prefix"]["name"] == "tensorflow"


def test_kept_features_that_are_not_the_model_s_measure_nothing(train, tmp_path, capsys):
    """A file with a good checksum and wrong rows: the head is bad, its figures are true."""
    train("first")
    for data in (tmp_path / "cache" / "features").glob("*/*.rows"):
        rows = np.fromfile(data, np.float32)[::-1].copy()
        data.write_bytes(rows.tobytes())
        sidecar = data.with_suffix(".json")
        about = json.loads(sidecar.read_text())
        sidecar.write_text(
            json.dumps(
                {
                    **about,
                    "checksum": cache_module._checksum(sidecar.parent, about["digests"], rows),
                }
            )
        )
    run = train("second", progress=True)
    assert "kept features answer otherwise than the model" in capsys.readouterr().out
    again = run.evaluate(raw=True, progress=False)
    assert again["loss"] == pytest.approx(run.metrics["test"]["loss"], rel=1e-4)


class Interrupt(keras.callbacks.Callback):
    """Presses Ctrl-C in the second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch:
            raise KeyboardInterrupt


def test_a_resumed_run_keeps_its_engine_or_says_that_it_is_gone(train, tmp_path, monkeypatch):
    with pytest.raises(Interrupted):
        train("run", epochs=3, callbacks=[Interrupt()])
    record = tmp_path / "run" / "engine.json"
    chosen = json.loads(record.read_text())
    assert chosen["name"] == "tensorflow"

    with monkeypatch.context() as patched:
        record.write_text(json.dumps({**chosen, "name": "openvino"}))
        reseal(tmp_path / "run")
        patched.setattr(engines, "MODULES", {"openvino": ("no_such_module",)})
        result = CliRunner().invoke(main, ["train", "--resume", str(tmp_path / "run")])
        assert result.exit_code == 2
        assert "pip install tlkit[openvino]" in result.output

    record.write_text(json.dumps({**chosen, "name": "keras"}))
    reseal(tmp_path / "run")
    shutil.rmtree(tmp_path / "cache")  # nothing there to prefer
    run = resume(tmp_path / "run", progress=False)
    assert run.metrics["prefix"] == {**chosen, "name": "keras"}


# Kept or computed anew: the losses


def losses(suffix: keras.Model, batches) -> list[float]:
    return [float(suffix.test_on_batch(x, y)) for x, y in batches]


@pytest.mark.parametrize(("half", "tolerance"), [(False, 0.0), (True, 5e-3)])
def test_losses_on_kept_features_are_those_on_computed_ones(
    net, tmp_path, monkeypatch, half, tolerance
):
    if half:
        monkeypatch.setattr("tlkit.features.store.FLOAT16_FROM_BYTES", 0)
    prefix, images = net
    y = np.arange(len(images)) % 3
    head = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(prefix.input, head(prefix.output))
    suffix = keras.Model(prefix.output, model.output)
    suffix.compile(loss="sparse_categorical_crossentropy", jit_compile=False)

    part = part_of(images)
    cut = Cut("pooled", (prefix.output,))
    store = FeatureStore(model, tmp_path, 2**30, part, QUIET, ("tensorflow",))
    assert store.keeps(cut)
    kept = FeatureBatches(store.rows([cut], part), y, 8)
    function = store.function(cut)
    computed = losses(suffix, ((function(images[i : i + 8]), y[i : i + 8]) for i in (0, 8, 16)))
    found = losses(suffix, (kept[i] for i in range(len(kept))))
    assert len(set(computed)) == 3
    assert np.abs(np.subtract(found, computed)).max() <= tolerance


def test_two_cuts_are_computed_in_one_pass_and_only_what_is_missing(net, tmp_path):
    pooled, images = net
    model = keras.Model(pooled.input, keras.layers.Dense(3)(pooled.output))
    cuts = [Cut("scaled", (pooled.layers[1].output,)), Cut("pooled", (pooled.output,))]
    part = part_of(images, seen := [])

    def store():
        return FeatureStore(model, tmp_path, 2**30, part, QUIET, ("tensorflow",))

    first = store()
    assert first.keeps(*cuts)
    found = first.rows(cuts, part).take()
    trial, whole = seen
    assert len(trial) == engines.TRIAL
    assert whole == list(range(20))
    assert share(found, np.asarray(pooled(images, training=False))) < engines.TOLERANCE["float32"]
    scaled = first.rows(cuts[:1], part).take()
    np.testing.assert_allclose(scaled, images / 127.5 - 1, atol=1e-6)

    kept = min(list_entries(tmp_path), key=lambda entry: entry.bytes)
    shutil.rmtree(kept.path)
    again = store()
    np.testing.assert_array_equal(again.rows(cuts, part).take(), found)
    np.testing.assert_array_equal(again.rows(cuts[:1], part).take(), scaled)
    assert seen[2:] == [list(range(20))]


def part_of(images, seen=None, size=8):
    """The images as a part of a data set; the indices of each pass go to `seen`."""

    def batches(chosen):
        chosen = list(chosen)
        if seen is not None:
            seen.append(chosen)
        groups = [chosen[i : i + size] for i in range(0, len(chosen), size)]
        return [(images[group], np.zeros(len(group))) for group in groups]

    names, targets = [str(i) for i in range(len(images))], np.zeros(len(images))
    return Examples(names, targets, batches, lambda _: batches(range(len(images))))


def two_scales(net):
    """A model whose head reads at two strides, and the cut of both tensors."""
    base = net[0]
    early, late = base.layers[1].output, base.output
    pooled = keras.layers.GlobalMaxPooling2D()(early)
    answers = keras.layers.Dense(3)(keras.layers.Concatenate()([pooled, late]))
    return keras.Model(base.input, answers), Cut("two", (early, late))


@pytest.mark.parametrize("name", ON_IMAGES)
def test_a_cut_of_several_tensors_is_kept_in_one_pass(net, tmp_path, name):
    needs(name)
    images, (model, cut), seen = net[1], two_scales(net), []
    part = part_of(images, seen)
    store = FeatureStore(model, tmp_path, 2**30, part, QUIET, (name,))
    assert store.keeps(cut)
    seen.clear()
    rows = store.rows([cut], part)
    assert seen == [list(range(20))]
    assert len(list_entries(tmp_path)) == len(rows.take()) == 2
    expected = keras.Model(model.input, list(cut.tensors)).predict_on_batch(images)
    computed = store.function(cut)(images)
    for kept, got, own in zip(rows.take(), computed, expected, strict=True):
        assert share(kept, got) < 1e-6
        assert share(kept, own) < engines.TOLERANCE["float32"]
    chosen = np.array([7, 0, 7])
    for few, every in zip(rows.take(chosen), rows.take(), strict=True):
        np.testing.assert_array_equal(few, every[chosen])
    # The suffix answers as the model does, and the next process computes nothing.
    _, suffix = split_at(model, cut)
    found = together(answered(suffix, [(rows.take(), None)], 20, QUIET, "test"))
    assert share(found, np.asarray(model(images, training=False))) < engines.TOLERANCE["float32"]
    seen.clear()
    again = FeatureStore(model, tmp_path, 2**30, part, QUIET, (name,)).rows([cut], part)
    assert seen == []
    for one, other in zip(again.take(), rows.take(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_tensor_has_one_entry_whatever_cut_it_is_in(net, tmp_path):
    model, cut = two_scales(net)
    alone = Cut("early", cut.tensors[:1])
    part = part_of(net[1], seen := [])

    def store():
        return FeatureStore(model, tmp_path, 2**30, part, QUIET, ("tensorflow",))

    first = store()
    assert first.keeps(alone, cut)
    seen.clear()
    both = first.rows([alone, cut], part).take()
    np.testing.assert_array_equal(first.rows([alone], part).take(), both[0])
    assert seen == [list(range(20))]
    assert len(list_entries(tmp_path)) == 2
    again = store()
    np.testing.assert_array_equal(again.rows([alone], part).take(), both[0])
    assert seen == [list(range(20))]


def test_what_one_of_several_tensors_lacks_is_computed_anew(net, tmp_path):
    model, cut = two_scales(net)
    part = part_of(net[1], seen := [])

    def store():
        return FeatureStore(model, tmp_path, 2**30, part, QUIET, ("tensorflow",))

    before = store().rows([cut], part).take()
    damaged = min(tmp_path.glob("*/*.rows"), key=lambda file: file.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[9] ^= 1
    damaged.write_bytes(content)
    seen.clear()
    after = store().rows([cut], part).take()
    assert seen[-1] == list(range(20))
    for one, other in zip(after, before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_limit_and_number_type_count_all_tensors_of_a_cut(net, tmp_path, monkeypatch, capsys):
    model, cut = two_scales(net)
    part, each = part_of(net[1]), [4 * 20 * 32 * 32 * 3, 4 * 20 * 256]
    assert (kept_type(cut, 20), kept_bytes(cut, 20)) == ("float32", sum(each))
    for limit, kept in ((sum(each) - 1, False), (sum(each), True)):
        store = FeatureStore(model, tmp_path / "c", limit, part, Progress(), ("keras",))
        assert store.keeps(cut) == kept
        assert ("features at two do not fit" in capsys.readouterr().out) != kept
        for rows, tensor in zip(store.rows([cut], part).take(), cut.tensors, strict=True):
            expected = keras.Model(model.input, tensor).predict_on_batch(net[1])
            np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("tlkit.features.store.FLOAT16_FROM_BYTES", sum(each) - 1)
    assert (kept_type(cut, 20), kept_bytes(cut, 20)) == ("float16", sum(each) / 2)
    assert kept_type(Cut("early", cut.tensors[:1]), 20) == "float32"


# Writing while computing


def test_a_shard_is_written_while_the_next_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_BYTES", 1)
    writing, computed = threading.Event(), threading.Event()
    write = FeatureCache.write_shard

    def slow(self, digests, rows):
        writing.set()
        assert computed.wait(20), "the next batch was not computed meanwhile"
        write(self, digests, rows)

    monkeypatch.setattr(FeatureCache, "write_shard", slow)

    def batches():
        yield [np.zeros((1, 2), np.float32)]
        assert writing.wait(20)
        computed.set()
        yield [np.ones((1, 2), np.float32)]

    cache = FeatureCache(tmp_path, {}, (2,), "float32", "title")
    fill([cache], ["a", "b"], batches())
    np.testing.assert_array_equal(cache.rows(["b", "a"]).take(), [[1, 1], [0, 0]])


def test_an_error_of_the_writer_surfaces(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_BYTES", 1)
    cache = FeatureCache(tmp_path / "root", {}, (2,), "float32", "title")
    shutil.rmtree(tmp_path / "root")
    (tmp_path / "root").write_text("a file in its place")
    rows = ([np.zeros((1, 2), np.float32)] for _ in range(3))
    with pytest.raises(CacheError, match="TLKIT_CACHE"):
        fill([cache], ["a", "b", "c"], rows)
