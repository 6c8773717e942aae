"""Generated images, a finished tiny run, and the guard of tests that need real weights.

Test files take what they need by name: `from conftest import TINY, needs_shared`.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile

# Before anything imports TensorFlow: the tests are about the CPU, whatever the machine has.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Threads that wait for work of a tiny network's size take more time than the work.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A cache of their own: nothing is left behind, nothing is found from an earlier session.
_CACHE = tempfile.TemporaryDirectory(prefix="tlkit-tests-")
os.environ["TLKIT_CACHE"] = _CACHE.name

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image, ImageDraw

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real weights and images, next to the checkout; tests that need them are skipped without."""

TINY = {
    "backbone": {"name": "MobileNet", "weights": "none", "alpha": 0.25},
    "image_size": 32,
    "engine": "keras",  # a trial of all takes longer than the features; test_engines.py has them
}
"""Fields of a spec for the quickest real training there is. Frozen, this random net gives no
features worth the name (they vanish); `tiny_weights` is the cure."""

SMALL = {
    "backbone": {"name": str(Path(__file__).with_name("small.keras"))},
    "engine": "keras",
}
"""The same for tests to which the network is all one: three convolutions that tell `CLASSES` apart,
of 32 x 32 pixels. A phase that fits takes half the time that it takes on TINY."""

CLASSES = ("disc", "square", "stripes")
PER_CLASS = 12
WIDTH, HEIGHT = 40, 48
COLOURS = {"disc": (210, 60, 50), "square": (60, 190, 70), "stripes": (60, 80, 210)}

FULL = os.environ.get("TLKIT_FULL") == "1"
"""Whether the tests marked `full` run as well: the whole catalog and whatever else takes long."""

FAMILIES = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0"),
    *("EfficientNetLite0", "VGG16", "ResNet50", "ResNet50V2", "DenseNet121", "InceptionV3"),
    *("InceptionResNetV2", "Xception", "NASNetMobile", "ConvNeXtTiny"),
)
"""One row of each family of the catalog, the smallest: tested always, the others with `FULL`."""


def rows(names) -> list:
    """Return the parameters of a test over rows of the catalog, `full` those not in `FAMILIES`."""
    marked = pytest.mark.full
    return [n if n in FAMILIES else pytest.param(n, marks=marked) for n in names]


needs_shared = pytest.mark.needs_shared
"""`@needs_shared`, or `@needs_shared("data/flowers12")` for a path below `SHARED`."""


def shared_env(**changes: str) -> dict[str, str]:
    """Return the environment of a subprocess that finds the real weights in `SHARED`."""
    return {**os.environ, "KERAS_HOME": str(SHARED / "keras_home"), **changes}


@pytest.fixture
def shared_keras_home() -> dict[str, str]:
    return shared_env()


def draw_image(label: str, random: np.random.Generator) -> Image.Image:
    """One image of a class: its shape in its colour, somewhere on noise."""
    noise = random.integers(110, 140, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    pen = ImageDraw.Draw(image)
    colour = tuple(int(c) for c in np.add(COLOURS[label], random.integers(-20, 21, 3)))
    x, y, side = (int(v) for v in random.integers((2, 2, 26), (8, 12, 32)))
    if label == "disc":
        pen.ellipse((x, y, x + side, y + side), fill=colour)
    elif label == "square":
        pen.rectangle((x, y, x + side, y + side), fill=colour)
    else:
        for top in range(y % 8, HEIGHT, 8):
            pen.rectangle((0, top, WIDTH, top + 3), fill=colour)
    return image


def write_images(folder: Path, labels=CLASSES, count: int = PER_CLASS, seed: int = 0) -> Path:
    """Write `count` images of each class into class folders; no two are alike."""
    random = np.random.default_rng(seed)
    for label in labels:
        (folder / label).mkdir(parents=True)
        for i in range(count):
            draw_image(label, random).save(folder / label / f"{label}{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """A folder of three class folders with twelve images each, 40 x 48 pixels; do not change."""
    return write_images(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def tiny_weights(image_folder, tmp_path_factory) -> str:
    """The path of random weights for TINY's backbone whose features tell `images` apart.

    One pass with momentum 0 sets BatchNorm's statistics to those of the data; as they start, the
    signal would shrink from layer to layer until nothing is left. The offset of 3 keeps it in the
    linear part of ReLU6, and blurring depthwise filters keep colours apart.
    """
    import keras

    keras.utils.set_random_seed(0)
    net = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None
    )
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
            layer.beta.assign(np.full(layer.beta.shape, 3.0))
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.kernel.assign(np.full(layer.kernel.shape, 1 / 9))
    files = sorted(image_folder.rglob("*.png"))
    batch = np.stack([np.asarray(Image.open(f).resize((32, 32)), np.float32) for f in files])
    net(batch / 127.5 - 1, training=True)
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    net.save_weights(path)
    return str(path)


@pytest.fixture(scope="session")
def tiny_run(image_folder, tiny_weights, tmp_path_factory):
    """A finished run on `images`: backbone frozen, head solved, accurate. Do not change it."""
    import tlkit

    fields = {**TINY, "backbone": {**TINY["backbone"], "weights": tiny_weights}}
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return tlkit.train(image_folder, out=out, regime="small", progress=False, **fields)


@pytest.fixture(scope="session")
def net(tmp_path_factory) -> str:
    """The path of a small network that keeps places: (8, 8, 16) of 32 x 32 pixels."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Rescaling(1 / 127.5, -1),
        keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        keras.layers.Conv2D(16, 3, strides=2, padding="same", name="deep"),
        keras.layers.ReLU(),
    ]
    path = tmp_path_factory.mktemp("net") / "net.keras"
    keras.Sequential([keras.Input((32, 32, 3)), *layers]).save(path)
    return str(path)


@pytest.fixture(scope="session")
def unsure_run(tiny_run, tmp_path_factory):
    """The tiny run with a head that is less sure: else all its answers are near 0 or 1."""
    import tlkit

    folder = shutil.copytree(tiny_run.folder, tmp_path_factory.mktemp("unsure") / "run")
    unsure = tlkit.open_run(folder)
    head = unsure.model.get_layer("predictions")
    head.set_weights([0.2 * weights for weights in head.get_weights()])
    unsure.model.save(folder / "model.keras")
    reseal(folder)
    return tlkit.open_run(folder)


def reseal(folder: Path) -> None:
    """Let a run folder whose files a test has edited pass for one that was written so."""
    from tlkit.runfolder.folder import RunFolder
    from tlkit.runfolder.record import RECORD, file_digest

    record = json.loads((folder / RECORD).read_text())
    for names in (record["start"], record["files"]):
        there = {name: folder / name for name in names if (folder / name).exists()}
        names.update({name: file_digest(path) for name, path in there.items()})
    record["spec"] = RunFolder(folder).read_spec().model_dump(mode="json")
    (folder / RECORD).write_text(json.dumps(record))


SLOWEST = (
    *("test_integrity.py", "test_training.py", "test_catalog.py", "test_cli.py", "test_engines.py"),
    *("test_kill.py", "test_tuning.py", "test_compare.py", "test_segmentation.py", "test_real.py"),
    *("test_export.py", "test_memory.py", "test_letterbox.py", "test_docs.py", "test_jax.py"),
)
"""Files that take longest: begun first, or one core would end with them alone."""


# Examples of a property, where a test does not say how many.
settings.register_profile("tlkit", max_examples=100 if FULL else 25)
settings.load_profile("tlkit")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=20 if FULL else 4, help="how often runs are killed"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in SLOWEST)
    if not FULL:
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("full")])
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_collection_finish() -> None:
    """Keep what the imports have made out of every later look for rubbish."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def fresh_session():
    """Let go of the graphs of a module's models; a worker grew to several gigabytes.

    What is left then stays: every later look for rubbish, two in each training, skips it.
    """
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def unlaid_figures():
    """Draw figures without arranging their axes first, which takes most of their time.

    Full runs, and the processes that other tests begin, arrange them.
    """
    with pytest.MonkeyPatch.context() as patch:
        if not FULL:
            engine = "matplotlib.layout_engine.ConstrainedLayoutEngine"
            patch.setattr(f"{engine}.execute", lambda self, figure: None)
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs_shared"):
        for path in mark.args or (".",):
            if not (SHARED / path).exists():
                pytest.skip(f"needs ../shared/{path}: real weights and images")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI no test may be skipped for lack of files while their folder is there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or not SHARED.is_dir() or reporter is None:
        return
    skipped = [r for r in reporter.stats.get("skipped", []) if "needs_shared" in r.keywords]
    if skipped:
        names = ", ".join(report.nodeid for report in skipped)
        reporter.write_line(f"skipped although {SHARED.name} is there: {names}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
