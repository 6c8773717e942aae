"""Every row of the catalog in every network format: whether it goes out, or the reason.

Each backbone, with random weights at its default size and a small head, is exported to ONNX, LiteRT
and OpenVINO, opened by the format's own runtime and held against Keras on a few smooth random
images, as `tlkit export` does. Nothing is timed against a limit; seconds are what an export takes
with its check.

    python benchmarks/formats.py --json formats.json
    python benchmarks/formats.py --backbone MobileNetV2 ResNet50 --formats onnx

It prints a table with the largest difference, or the reason where a format does not take a row.
Each row runs in a process of its own, so that one that crashes costs no other. Time: some minutes
for each of the large rows; all rows have not been timed yet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import parser, report

FORMATS = ("onnx", "litert", "openvino")
IMAGES = 4


def read_options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--backbone", nargs="*", metavar="NAME", help="rows; default: all")
    made.add_argument("--formats", nargs="*", default=FORMATS, metavar="FORMAT")
    made.add_argument("--image-size", type=int, help="default: the row's own")
    made.add_argument("--one", help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.smoke:
        options.backbone, options.image_size = ["MobileNet"], 32
    return options


def network(name: str, size: int, images, task):
    """Return a row with random weights that tells `images` apart, far from saturation.

    Left as they start, random networks answer nearly alike whatever they see, and a comparison
    would prove nothing: BatchNorm gets the statistics of the images, the layer scales of ConvNeXt
    leave 1e-6, and the head sees features in deviations from their mean.
    """
    import keras
    import numpy as np

    from tlkit.backbones.build import build_backbone
    from tlkit.spec.parts import HeadSpec
    from tlkit.tasks.pooled import attach

    keras.utils.set_random_seed(0)
    built = build_backbone(name, size, "none")
    model = attach(built.inputs, built.features, task, HeadSpec())
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(np.full(layer.gamma.shape, 0.5))
    model(images, training=True)
    head = model.get_layer("predictions")
    features = keras.Model(model.inputs, head.input).predict_on_batch(images)
    kernel = np.random.default_rng(0).normal(size=head.kernel.shape) / np.sqrt(features.shape[1])
    kernel /= np.maximum(features.std(axis=0), 1e-3 * np.abs(features).max())[:, None]
    head.set_weights([kernel, -features.mean(axis=0) @ kernel])
    return model


def outcomes(name: str, options: argparse.Namespace) -> list[dict]:
    """Return a row's outcome in each format: the largest difference, or the reason."""
    import numpy as np

    from tlkit.backbones.catalog import lookup
    from tlkit.data.pictures.decode import traced_decode_and_resize
    from tlkit.data.pictures.rendering import PLAIN
    from tlkit.errors import TlkitError
    from tlkit.export import formats
    from tlkit.export.about import About
    from tlkit.export.opened import open_file
    from tlkit.export.parity import AGREEMENT, check_parity, made_up_images
    from tlkit.tasks.classification import Classification

    size = options.image_size or lookup(name).default_size
    task, encoded, found = Classification(("one", "two", "three")), made_up_images(IMAGES), []
    decode = traced_decode_and_resize(size, PLAIN)
    images = np.stack([decode(item).numpy() for item in encoded])
    model = network(name, size, images, task)
    expected = np.asarray(model.predict_on_batch(images))
    spread = float(expected.std(axis=0).max())
    for kind in options.formats:
        about, start, row = About(kind, task, size, PLAIN, name), time.perf_counter(), {}
        try:
            with tempfile.TemporaryDirectory() as folder:
                formats.check_installed(kind, writing=True)
                formats.writer_of(kind)(model, about, Path(folder), tuple)
                opened = open_file(kind, Path(folder, formats.lookup(kind).file))
                parity = check_parity(opened, about, encoded, expected, AGREEMENT)
                row = {"answer": "yes", "difference": f"{parity.largest_difference:.1e}"}
        except TlkitError as error:
            row = {"answer": "no", "difference": "", "reason": str(error)}
        except Exception as error:  # of a converter or runtime: it is this row's reason
            row = {"answer": "no", "difference": "", "reason": f"{type(error).__name__}: {error}"}
        seconds = round(time.perf_counter() - start, 1)
        found.append(
            {"backbone": name, "format": kind, "spread": spread, "seconds": seconds, **row}
        )
    return found


def in_a_process(name: str, options: argparse.Namespace) -> list[dict]:
    """Return `outcomes` of a process of its own."""
    size = ["--image-size", str(options.image_size)] if options.image_size else []
    done = subprocess.run(
        [sys.executable, __file__, "--one", name, *size, "--formats", *options.formats],
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    reason = f"exit code {done.returncode}: {' '.join(done.stderr.split())[-200:]}"
    gone = {"answer": "no", "spread": 0.0, "seconds": 0.0, "difference": "", "reason": reason}
    return [{"backbone": name, "format": kind, **gone} for kind in options.formats]


def main() -> None:
    options = read_options()
    if options.one:
        print(json.dumps(outcomes(options.one, options)))
        return
    from tlkit.backbones.catalog import CATALOG

    rows = []
    for name in options.backbone or CATALOG:
        rows += in_a_process(name, options)
        print(f"{name}: {', '.join(row['answer'] for row in rows[-len(options.formats) :])}")
    yes = {k: [r["answer"] for r in rows if r["format"] == k].count("yes") for k in options.formats}
    total = len(rows) / len(options.formats)
    shares = {f"{kind}, yes of {total:.0f} rows": count / total for kind, count in yes.items()}
    report(options, rows, shares)


if __name__ == "__main__":
    main()
