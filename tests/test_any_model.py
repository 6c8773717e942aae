"""A model of the user's own as the backbone: a file, a function, an object."""

import importlib
import shutil
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from keras import layers

import tlkit
from tlkit.backbones.catalog import CATALOG, MODEL, is_given
from tlkit.backbones.cost import layer_costs
from tlkit.backbones.graph import crossing, sources
from tlkit.backbones.own.user_model import build_user_model, open_user_model
from tlkit.cli.main import main
from tlkit.commands.train import resume
from tlkit.compute.setup import precision
from tlkit.errors import BackboneError, RunFolderError, SpecError
from tlkit.features.cut import cut_of, split_at
from tlkit.planning.freezing import block_names, plan_freeze

SIZE = 32
SOURCE = """
import keras


def net():
    first = keras.layers.Conv2D(4, 3, strides=2, activation="relu")
    second = keras.layers.Conv2D(8, 3, strides=2, name="deep")
    scale = keras.layers.Rescaling(1 / 255)
    relu = keras.layers.ReLU()
    return keras.Sequential([keras.Input((32, 32, 3)), scale, first, second, relu])


def broken():
    raise RuntimeError("no luck")


def text():
    return "a model"
"""


def residual(size: int | None = SIZE) -> keras.Model:
    """Three resolutions, a residual addition with its own activation, a top of two layers."""
    inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1 / 127.5, -1, name="scale")(inputs)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="conv1")(x)
    x = layers.BatchNormalization(name="bn1")(x)
    x = y = layers.ReLU(name="relu1")(x)
    y = layers.Conv2D(8, 3, padding="same", name="conv2")(y)
    y = layers.BatchNormalization(name="bn2")(y)
    x = layers.Add(name="add2")([x, y])
    x = layers.ReLU(name="relu2")(x)
    x = layers.Conv2D(8, 3, padding="same", name="conv3")(x)
    x = layers.MaxPooling2D(name="pool4")(x)
    x = layers.Conv2D(12, 3, padding="same", name="conv4")(x)
    x = layers.BatchNormalization(name="bn4")(x)
    x = layers.ReLU(name="relu4")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(5, name="scores")(x), name="residual")


RESIDUAL_BLOCKS = {
    "block_1": ["scale", "conv1", "bn1", "relu1", "conv2", "bn2", "add2", "relu2"],
    "block_2": ["conv3"],
    "block_3": ["pool4", "conv4", "bn4", "relu4"],
}


def sequential() -> keras.Model:
    stages = [
        (layers.Conv2D(width, 3, padding="same"), layers.BatchNormalization(), layers.ReLU())
        for width in (6, 8, 10)
    ]
    first, second, third = stages
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            *first,
            layers.MaxPooling2D(),
            *second,
            layers.MaxPooling2D(),
            *third,
            layers.Flatten(),
            layers.Dense(4),
        ],
        name="plain",
    )


def nested() -> keras.Model:
    """By the official guide: a frozen application, called as a layer, between layers."""
    base = keras.applications.MobileNet(
        weights=None, alpha=0.25, input_shape=(SIZE, SIZE, 3), include_top=False
    )
    base.trainable = False
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.RandomFlip(name="flip")(inputs)
    x = layers.Rescaling(1 / 127.5, -1, name="scale")(x)
    x = base(x, training=False)
    x = layers.Conv2D(8, 1, name="squeeze")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2)(x), name="nested")


def operations() -> keras.Model:
    """Operations that are no layers, a name that is the head's, two nested models alike."""
    inner = keras.Input((16, 16, 4))
    block = [
        keras.Model(inner, layers.Conv2D(4, 3, padding="same", name="conv")(inner), name=name)
        for name in ("left", "right")
    ]
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.ops.relu(layers.Conv2D(4, 2, strides=2, name="head_stem")(inputs / 255.0))
    x = block[0](x) + x
    x = keras.ops.concatenate([block[1](x), x], axis=-1)
    return keras.Model(inputs, x, name="operations")


MODELS = {"residual": residual, "sequential": sequential, "nested": nested, "ops": operations}


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> keras.Model:
    """One of `MODELS`, its normalisation's statistics no longer those of a new layer."""
    keras.utils.set_random_seed(1)
    made = MODELS[request.param]()
    random = np.random.default_rng(0)
    for layer in made._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return made


@pytest.fixture(scope="module")
def built(model):
    return build_user_model(open_user_model(MODEL, model))


def build(model: keras.Model, size: int | None = None, **options):
    return build_user_model(open_user_model(MODEL, model, size), **options)


def blocks_of(built) -> dict[str, list[str]]:
    names = block_names(built.layers)
    return {b: [x.name for x in built.layers if x.block == b] for b in names}


def images(count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, SIZE, SIZE, 3)).astype("float32")


def close(a, b) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and bool(np.abs(a - b).max() <= 1e-5 * max(1, np.abs(b).max()))


def composes(prefix: keras.Model, suffix: keras.Model, whole: keras.Model) -> bool:
    # RandomFlip flips unless it is told that this is no training.
    features = prefix(images(), training=False)
    return close(suffix(features, training=False), whole(images(), training=False))


# The graph, laid out flat


def test_every_layer_is_in_one_block(built):
    flat = keras.Model(built.inputs, built.features)
    names = [layer.name for layer in flat.layers[1:]]
    assert [layer.name for layer in built.layers] == names
    assert len(set(names)) == len(names)
    assert not any(isinstance(layer, keras.Model) for layer in flat.layers)
    assert sum(layer.parameters for layer in built.layers) == flat.count_params()


def test_the_copy_computes_the_same(model, built):
    end = {"residual": "relu4", "plain": None, "nested": "squeeze", "operations": None}[model.name]
    if model.name == "plain":
        wanted = keras.Sequential([model.inputs[0], *model.layers[:-2]])
    else:
        wanted = keras.Model(model.input, model.get_layer(end).output) if end else model
    got = keras.Model(built.inputs, built.features)
    assert close(got(images(), training=False), wanted(images(), training=False))


def test_every_boundary_cuts_the_graph_in_two(built):
    whole = keras.Model(built.inputs, built.features)
    feeds = sources(whole)
    block = {layer.name: layer.block for layer in built.layers}
    names = block_names(built.layers)
    for number in range(1, len(names)):
        below = set()
        for name, inputs in feeds.items():
            if block[name] in names[:number] if name in block else below.issuperset(inputs):
                below.add(name)
        tensors = crossing(whole, below)
        assert len(tensors) == 1
        prefix = keras.Model(built.inputs, tensors[0])
        suffix = keras.Model(tensors[0], built.features)
        assert composes(prefix, suffix, whole)


def test_the_model_stays_as_it_is(model):
    weights = [np.array(w) for w in model.get_weights()]
    flags = [layer.trainable for layer in model._flatten_layers()]
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    made = build(model)
    copy = keras.Model(made.inputs, made.features)
    copy.set_weights([w + 1 for w in copy.get_weights()])
    assert all(map(np.array_equal, weights, model.get_weights()))
    assert flags == [layer.trainable for layer in model._flatten_layers()]
    assert nodes == [len(layer._inbound_nodes) for layer in model._flatten_layers()]


def test_blocks_end_at_resolutions_and_behind_joins():
    assert blocks_of(build(residual())) == RESIDUAL_BLOCKS


def test_a_plain_stack_has_a_block_for_each_resolution():
    assert [len(names) for names in blocks_of(build(sequential())).values()] == [3, 4, 4]


def test_a_gate_is_no_join():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 3, strides=2, name="stem")(inputs)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    x = layers.Conv2D(8, 1, name="project")(x)
    assert len(blocks_of(build(keras.Model(inputs, x)))) == 1


def test_an_application_inside_keeps_its_blocks():
    blocks = blocks_of(build(nested()))
    assert list(blocks)[:3] == ["stem", "block_1", "block_2"]
    assert blocks["stem"][:3] == ["flip", "scale", "conv1"]
    assert blocks["added_1"] == ["squeeze"]


def test_an_application_that_nests_models_keeps_its_blocks():
    net = keras.applications.ConvNeXtTiny(weights=None, input_shape=(SIZE, SIZE, 3))
    assert list(blocks_of(build(net))) == [name for name, _ in CATALOG["ConvNeXtTiny"].blocks]


@pytest.mark.parametrize(("longer", "first"), [(0, "stem"), (40, "block_1")])
def test_a_branch_beside_an_application_can_be_cut_too(longer, first):
    base = next(layer for layer in nested().layers if isinstance(layer, keras.Model))
    inputs = keras.Input((SIZE, SIZE, 3))
    beside = layers.Conv2D(8, 3, strides=16, padding="same", name="patches")(inputs)
    for _ in range(longer):
        beside = layers.ReLU()(beside)
    beside = layers.Conv2D(8, 3, strides=2, padding="same", name="beside")(beside)
    x = layers.Concatenate(name="both")([base(inputs), beside])
    made = build(keras.Model(inputs, layers.Conv2D(4, 1, name="behind")(x)))
    assert block_names(made.layers)[0] == first
    plan = plan_freeze(made.layers, f"until={first}")
    whole = keras.Model(made.inputs, made.features)
    prefix, suffix = split_at(whole, cut_of(whole, plan))
    assert composes(prefix, suffix, whole)
    inside = {layer.name for layer in prefix.layers}
    assert inside.isdisjoint(x.name for x in made.layers if x.name not in plan.frozen)


def test_a_top_that_keeps_its_dimensions_is_left_out():
    net = keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(SIZE, SIZE, 3))
    assert build(net).layers[-1].name == "conv_pw_13_relu"


def test_names_that_are_taken_get_another():
    names = [layer.name for layer in build(operations()).layers]
    assert {"backbone_head_stem", "conv", "right_conv"} <= set(names)


@pytest.mark.parametrize("cut", ["relu2", "conv3"])
def test_the_cut_is_where_it_is_asked_for(cut):
    assert build(residual(), cut=cut).layers[-1].name == cut


def test_a_nested_model_can_be_the_cut():
    model = nested()
    inner = next(layer.name for layer in model.layers if isinstance(layer, keras.Model))
    assert build(model, cut=inner).layers[-1].name == "conv_pw_13_relu"


@pytest.mark.parametrize(
    ("mode", "module"), [("tf", "mobilenet"), ("caffe", "resnet"), ("torch", "densenet")]
)
def test_preprocessing_is_keras_own(mode, module):
    inputs = keras.Input((SIZE, SIZE, 3))
    net = keras.Model(inputs, layers.Conv2D(4, 3, name="conv")(inputs[..., ::-1]))
    made = build(net, preprocessing=mode)
    prepare = importlib.import_module(f"keras.applications.{module}").preprocess_input
    got = keras.Model(made.inputs, made.features)(images())
    assert close(got, net(prepare(images())))
    assert [layer.name for layer in made.layers] == ["conv"]


def test_an_adapted_normalization_keeps_what_it_learned():
    norm = layers.Normalization(name="norm")
    norm.adapt(images(8))
    inputs = keras.Input((SIZE, SIZE, 3))
    net = keras.Model(inputs, layers.Conv2D(4, 3)(norm(inputs)))
    made = build(net)
    assert close(keras.Model(made.inputs, made.features)(images()), net(images()))


def test_a_model_of_any_size_takes_the_size_asked_for():
    assert build(residual(None), 48).features.shape == (None, 12, 12, 12)


def test_a_sequential_without_input_takes_the_size_asked_for():
    net = keras.Sequential([layers.Conv2D(4, 3, strides=2), layers.ReLU()])
    assert build(net, 48).features.shape == (None, 23, 23, 4)
    assert not net.built


# Training


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module `nets_of_mine` in the current folder, which is not on `sys.path`."""
    (tmp_path / "nets_of_mine.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield "nets_of_mine"
    sys.modules.pop("nets_of_mine", None)


def train(image_folder, tmp_path, backbone, **fields):
    fields = {"regime": "medium", "epochs": 1, "progress": False, **fields}
    return tlkit.train(image_folder, backbone=backbone, out=tmp_path / "run", **fields)


@pytest.fixture(scope="module")
def object_run(image_folder, tmp_path_factory):
    """A model object and the finished run on it, its first block frozen; do not change them."""
    keras.utils.set_random_seed(0)
    model = residual()
    backbone = {"name": model, "weights": "none"}  # a single phase: it is sure to be the best
    folder = tmp_path_factory.mktemp("object")
    return model, train(image_folder, folder, backbone, freeze="until=block_1", batchnorm="affine")


def test_a_run_on_a_model_object_is_as_any(object_run):
    _, run = object_run
    assert (run.spec.backbone.name, run.spec.size) == (MODEL, SIZE)
    assert f"name: {MODEL}" in (run.folder / "spec.yaml").read_text()
    opened = tlkit.open_run(run.folder)
    assert opened.evaluate(progress=False)["accuracy"] == run.metrics["test"]["accuracy"]


def test_the_plan_of_a_model_object(image_folder):
    made = tlkit.plan(image_folder, backbone=residual(), freeze="last=1", progress=False)
    rows = made.phases[-1].freeze.table()
    assert [(row.block, row.state) for row in rows] == [
        ("block_1", "frozen"),
        ("block_2", "frozen"),
        ("block_3", "trained"),
    ]


def test_attention_is_counted_too():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(4, 8, strides=8, name="patches")(inputs)
    y = layers.Reshape((16, 4))(x)
    y = layers.MultiHeadAttention(2, 2, name="attention")(y, y)
    x = layers.Add(name="sum")([x, layers.Reshape((4, 4, 4))(y)])
    made = build(keras.Model(inputs, x))
    costs = layer_costs(keras.Model(made.inputs, made.features))
    assert costs["patches"].multiply_adds == 16 * 64 * 3 * 4
    assert costs["attention"].shape == (None, 16, 4)


def test_frozen_layers_stay_and_others_move(object_run):
    model, run = object_run
    moved = {}
    for layer in model.layers[1:-2]:
        pairs = zip(layer.get_weights(), run.model.get_layer(layer.name).get_weights(), strict=True)
        moved[layer.name] = [not np.array_equal(a, b) for a, b in pairs]
    assert not any(moved["conv1"] + moved["bn1"] + moved["conv2"])
    assert all(moved["conv3"] + moved["conv4"])
    assert moved["bn4"] == [True, True, False, False]
    assert run.plan["phases"][-1]["cut"] == "block_1"
    (phase,) = run.metrics["phases"]
    assert phase["features_kept"]
    assert phase["trainable_parameters"] == (8 * 9 + 1) * 8 + (8 * 9 + 1) * 12 + 2 * 12 + 13 * 3


def test_the_model_given_is_not_trained_and_the_result_loads(image_folder, tmp_path):
    model = nested()
    before = [np.array(w) for w in model.get_weights()]
    answer = model(images(), training=False)
    run = train(image_folder, tmp_path, model)
    assert [phase["name"] for phase in run.metrics["phases"]] == ["head", "finetune"]
    assert all(map(np.array_equal, before, model.get_weights()))
    assert close(model(images(), training=False), answer)
    assert keras.models.load_model(run.folder / "model.keras")(images()).shape == (2, 3)


def test_prefix_and_suffix_are_the_whole(built):
    plan = plan_freeze(built.layers, "last=1")
    pooled = layers.GlobalAveragePooling2D(name="head_pool")(built.features)
    whole = keras.Model(built.inputs, pooled)
    if plan.cut:
        prefix, suffix = split_at(whole, cut_of(whole, plan))
        assert composes(prefix, suffix, whole)


def test_a_file_by_the_command_line_and_on_from_a_stop(image_folder, tmp_path):
    operations().save(file := tmp_path / "my net.keras")
    out = tmp_path / "run"
    options = ["--backbone", str(file), "--out", str(out)]
    result = CliRunner().invoke(main, ["train", str(image_folder), *options])
    assert result.exit_code == 0, result.output
    run = tlkit.open_run(out)
    assert (run.spec.backbone.name, run.spec.backbone.weights) == (str(file), "own")
    plan = run.plan
    (out / "metrics.json").unlink()
    again = CliRunner().invoke(main, ["train", "--resume", str(out)])
    assert again.exit_code == 0, again.output
    assert (run.plan, run.metrics["backbone"]) == (plan, str(file))


def test_a_stopped_run_on_a_model_object_cannot_go_on(object_run, tmp_path):
    copy = shutil.copytree(object_run[1].folder, tmp_path / "copy")
    (copy / "metrics.json").unlink()
    with pytest.raises(RunFolderError, match="was trained on a model object, which is gone"):
        resume(copy)


@pytest.mark.full
def test_a_function_by_the_command_line(module, image_folder, tmp_path):
    out = tmp_path / "run"
    options = ["--backbone", f"{module}:net", "--epochs", "1", "--out", str(out)]
    settings = ["--set", "backbone.weights=none", "--set", "backbone.cut=deep"]
    result = CliRunner().invoke(main, ["train", str(image_folder), *options, *settings])
    assert result.exit_code == 0, result.output
    run = tlkit.open_run(out)
    assert (run.spec.backbone.name, run.plan["regime"]) == (f"{module}:net", "large")
    assert run.model.get_layer("head_pool").input.shape == (None, 7, 7, 8)


def test_precision_reaches_the_layers(image_folder):
    with precision(tlkit.RunSpec(precision="bfloat16")):
        made = build(residual())
    assert made.features.dtype == "bfloat16"


def test_backbones_shows_blocks_and_layers(tmp_path, monkeypatch):
    residual().save(file := tmp_path / "net.keras")
    monkeypatch.setenv("COLUMNS", "120")
    result = CliRunner().invoke(main, ["backbones", str(file)])
    assert result.exit_code == 0, result.output
    for word in ("block_3", "conv4", "8x8x12", "32 pixels"):
        assert word in result.output
    shorter = CliRunner().invoke(main, ["backbones", str(file), "--cut", "relu2"])
    assert "conv4" not in shorter.output


# What is said when it does not work


def two_inputs() -> keras.Model:
    a, b = keras.Input((SIZE, SIZE, 3)), keras.Input((SIZE, SIZE, 3))
    return keras.Model([a, b], layers.Add()([a, b]))


def of_shape(*shape: int) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, layers.Dense(4)(inputs))


def flattened() -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), layers.Flatten(), layers.Dense(4)])


def shared() -> keras.Model:
    inputs = keras.Input((SIZE, SIZE, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="twice")
    return keras.Model(inputs, conv(conv(inputs)))


def with_lambda() -> keras.Model:
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, layers.Lambda(lambda x: x * 2, name="double")(inputs))


def with_function() -> keras.Model:
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, layers.Conv2D(3, 3, activation=close, name="own")(inputs))


class Subclassed(keras.Model):
    def call(self, x):
        return x


class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x


def with_own_layer() -> keras.Model:
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, Doubled(name="double")(inputs))


def with_subclass_inside() -> keras.Model:
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, Subclassed(name="inner")(inputs))


@pytest.mark.parametrize(
    ("make", "size", "options", "words"),
    [
        (two_inputs, None, {}, ["backbone <model>:", "one input (batch, size, size, 3)"]),
        (lambda: of_shape(7), None, {}, ["no square colour images", "(None, 7)"]),
        (lambda: of_shape(32, 16, 3), None, {}, ["no square colour images", "32, 16, 3"]),
        (lambda: of_shape(32, 32, 4), None, {}, ["no square colour images", "32, 32, 4"]),
        (residual, 48, {}, ["image size: the model takes 32 pixels", "Received: 48"]),
        (lambda: residual(None), None, {}, ["does not fix its own", "--image-size N"]),
        (flattened, None, {}, ["no layer has a 4-dimensional output"]),
        (residual, None, {"cut": "relu22"}, ["Did you mean 'relu2'?", "4-dimensional"]),
        (residual, None, {"cut": "scores"}, ["'scores' is no feature map", "(None, 5)"]),
        (shared, None, {}, ["layer 'twice' is called 2 times with the same weights"]),
        (with_own_layer, None, {}, ["layer 'double' is not built into Keras (Doubled)"]),
        (Subclassed, None, {}, ["is a subclassed model", "functional and Sequential"]),
        (with_subclass_inside, None, {}, ["'inner' is a subclassed model"]),
        (with_lambda, None, {}, ["layer 'double' is not built into Keras (Lambda)"]),
        (with_function, None, {}, ["layer 'own' is not built into Keras (a function"]),
        (keras.Sequential, None, {}, ["does not fix its own"]),
    ],
)
def test_a_model_that_cannot_serve_is_refused(make, size, options, words):
    with pytest.raises(BackboneError) as caught:
        build(make(), size, **options)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.keras", ["missing.keras: no such file"]),
        ("broken.keras", ["is not a .keras file, or is damaged"]),
        ("own.keras", ["needs code of its own: class 'Gone' is not built into Keras"]),
        ("lambda.keras", ["holds a Lambda layer, which may run any code"]),
        ("no_such_module_here:net", ["no module named 'no_such_module_here'"]),
        ("nets_of_mine:nett", ["no function 'nett'", "Did you mean 'net'?"]),
        ("nets_of_mine:broken", ["the function failed: RuntimeError: no luck"]),
        ("nets_of_mine:text", ["must return a keras.Model", "Received: str"]),
        ("<model>", ["stands for a model object that Python passed"]),
    ],
)
def test_the_command_line_says_it_in_one_sentence(name, words, module, image_folder, tmp_path):
    class Gone(layers.Layer):
        def call(self, x):
            return x

    inputs = keras.Input((SIZE, SIZE, 3))
    if name == "own.keras":
        keras.Model(inputs, Gone()(inputs)).save(name)
    elif name == "lambda.keras":
        with_lambda().save(name)
    (tmp_path / "broken.keras").write_text("no model")
    arguments = ["train", str(image_folder), "--backbone", name, "--out", "run"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.output
    assert not (tmp_path / "run").exists()
    assert tmp_path.as_posix() not in sys.path


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ({"name": "VGG16", "cut": "block1_pool"}, "backbone.cut: belongs to a model of your own"),
        ({"name": "VGG16", "preprocessing": "tf"}, "backbone.preprocessing: belongs to a model"),
        ({"name": "a.keras", "alpha": 0.5}, "backbone.alpha: a.keras has none"),
        ({"name": "a.keras", "weights": "imagenet"}, "brings its weights. Allowed: own, none"),
        ({"name": "a.keras", "preprocessing": "rgb"}, "backbone.preprocessing: "),
        ({"name": "a.h5"}, "path/to/model.keras, module:function"),
    ],
)
def test_options_that_do_not_go_together(backbone, words):
    with pytest.raises(SpecError, match=words):
        tlkit.train("nowhere", backbone=backbone)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("MobileNet", False),
        ("a/b c.keras", True),
        ("mine.nets:small_net", True),
        ("model.h5", False),
        ("mine:", False),
        (MODEL, True),
    ],
)
def test_what_stands_for_a_model_of_ones_own(name, given):
    assert is_given(name) is given


@pytest.mark.parametrize(
    ("name", "label"),
    [("VGG16", "VGG16"), ("a/my.net.keras", "my.net"), ("mine.nets:small", "mine.nets:small")],
)
def test_the_name_in_a_run_folder(name, label):
    assert tlkit.RunSpec(backbone=name).backbone.label == label
