"""Opens the models that tlkit saves in older versions of Keras, and compares their features.

A model of each family, or of the backbones that are named, is built with random weights and saved
as a run saves it. Then each version of Keras, installed from PyPI beside one TensorFlow 2.16 in a
temporary virtual environment, loads it and answers for the same images.

    python benchmarks/keras_versions.py                    # a backbone of each family
    python benchmarks/keras_versions.py --backbones all --versions 3.4.1 3.8.0 3.14.0

A figure is the largest difference of a pooled feature and of a probability, each by the largest
there is; `no` and an error is a file that does not open. Time, two cores: 6 minutes, 15 for all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from figures import parser, report

VERSIONS = ("3.4.1", "3.6.0", "3.8.0", "3.10.0", "3.12.0", "3.14.0")
FAMILIES = (
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0"),
    *("EfficientNetLite0", "VGG16", "ResNet50", "ResNet50V2", "DenseNet121", "InceptionV3"),
    *("InceptionResNetV2", "Xception", "NASNetMobile", "ConvNeXtTiny"),
)
TENSORFLOW = "tensorflow-cpu==2.16.2"
"""The last one that every Keras 3 goes with (Python 3.9 to 3.12)."""

READ = """
import json, sys, keras, numpy as np
found = {}
for file in sys.argv[2:]:
    try:
        model = keras.models.load_model(file)
        pool = model.get_layer("head_pool").output
        got = keras.Model(model.inputs[0], [pool, model.outputs[0]])(
            np.load(file + ".images.npy"), training=False)
        kept = np.load(file + ".npz")
        pairs = [(np.asarray(g), kept[k]) for g, k in zip(got, ("features", "outputs"))]
        found[file] = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
    except Exception as error:
        found[file] = "no: " + " ".join(str(error).split())[-200:]
json.dump(found, open(sys.argv[1], "w"))
"""


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        files = [str(save(name, Path(folder))) for name in options.backbones]
        python = Path(folder) / "venv/bin/python"
        venv.create(python.parents[1], with_pip=True)
        install(python, TENSORFLOW, "dm-tree")
        rows = [{"backbone": name} for name in options.backbones]
        for version in options.versions:
            own = Path(folder) / version
            install(python, "--no-deps", "--target", str(own), f"keras=={version}")
            found = read(python, own, files)
            for row, file in zip(rows, files, strict=True):
                row[version] = shown(found[file])
    report(options, rows, {})
    if any("no:" in cell for row in rows for cell in row.values()):
        sys.exit(1)


def read_options() -> argparse.Namespace:
    made = parser(__doc__, repeat=1)
    made.add_argument("--backbones", nargs="+", default=list(FAMILIES), help="names, or: all")
    made.add_argument("--versions", nargs="+", default=list(VERSIONS), help="of Keras")
    options = made.parse_args()
    if options.backbones == ["all"]:
        from tlkit.backbones.catalog import CATALOG

        options.backbones = list(CATALOG)
    if options.smoke:
        options.backbones, options.versions = ["MobileNet"], ["3.8.0"]
    return options


def save(name: str, folder: Path) -> Path:
    """Save the model of a run on backbone `name`, images, and what it answers for them."""
    import keras

    from tlkit.backbones.build import build_backbone
    from tlkit.backbones.catalog import lookup
    from tlkit.runfolder.portable import save_portable
    from tlkit.spec.parts import HeadSpec
    from tlkit.tasks.pooled import POOLED, attach
    from tlkit.tasks.registry import TASKS

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    size = max(96, lookup(name).min_size)
    built = build_backbone(name, size, "none")
    task = TASKS["classification"](("a", "b", "c"))
    model = attach(built.inputs, built.features, task, HeadSpec())
    # Smooth images, since noise makes every network answer alike.
    coarse = np.random.default_rng(0).uniform(0, 255, (8, 5, 5, 3)).astype("float32")
    images = np.asarray(keras.ops.image.resize(coarse, (size, size)))
    settle(model, images)
    answers = keras.Model(model.input, [model.get_layer(POOLED).output, model.output])
    features, outputs = map(np.asarray, answers(images, training=False))
    path = folder / f"{name}.keras"
    save_portable(model, path)
    np.save(f"{path}.images.npy", images)
    np.savez(f"{path}.npz", features=features, outputs=outputs)
    return path


def settle(model, images: np.ndarray) -> None:
    """Give normalisations statistics and layer scales a size that let a signal through."""
    import keras

    layers = list(model._flatten_layers(include_self=False))
    norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    for layer in layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(np.full(layer.gamma.shape, 0.5))
    # Without dropout: the statistics are to be those of inference, or rounding errors grow.
    dropouts = [x for x in layers if isinstance(x, keras.layers.Dropout)]
    kept = [x.momentum for x in norms], [x.rate for x in dropouts]
    for layer in norms:
        layer.momentum = 0.0
    for layer in dropouts:
        layer.rate = 0.0
    model(images, training=True)
    for layer, momentum in zip(norms, kept[0], strict=True):
        layer.momentum = momentum
    for layer, rate in zip(dropouts, kept[1], strict=True):
        layer.rate = rate


def install(python: Path, *what: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True)


def read(python: Path, keras: Path, files: list[str]) -> dict[str, float | str]:
    env = {**os.environ, "PYTHONPATH": str(keras), "CUDA_VISIBLE_DEVICES": ""}
    result = keras / "found.json"
    subprocess.run([python, "-c", READ, result, *files], check=True, env=env)
    return json.loads(result.read_text(encoding="utf-8"))


def shown(found: float | str) -> str:
    return found if isinstance(found, str) else f"{found:.1e}"


if __name__ == "__main__":
    main()
