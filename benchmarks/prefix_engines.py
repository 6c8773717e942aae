"""The frozen prefix on each engine against `keras predict` and against the machine's peak.

One array of images, in batches, goes through the same frozen network: by `model.predict`, and by
each way in which tlkit computes features. The sides alternate within a round; a first, uncounted
round compiles and traces. In each round the peak is measured too: the better of two large float32
matrix products, NumPy's and TensorFlow's.

    python benchmarks/prefix_engines.py --json engines.json
    python benchmarks/prefix_engines.py --backbone MobileNetV2 --cut block_12 --images 1024

It prints for each side images a second (median over the rounds), the share of the peak that this
comes to at two operations a multiply-add (convolutions and matrix products, as tlkit counts them),
and the largest difference to `keras predict`, relative to the features' own deviation; as ratios
each side by `keras predict`. Time, two cores: MobileNetV2, 512 images of 224 pixels, 3 rounds:
2 minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from figures import median, parser, rate, report

KERAS = "keras predict"


def read_options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--backbone", default="MobileNetV2")
    made.add_argument("--alpha", type=float, help="width multiplier of the MobileNets")
    made.add_argument("--weights", default="imagenet")
    made.add_argument("--cut", help="the last frozen block; default: all of it, pooled")
    made.add_argument("--image-size", type=int, default=224)
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--images", type=int, default=512)
    made.add_argument("--matrix", type=int, default=4096, help="side of the matrix product")
    options = made.parse_args()
    if options.smoke:
        options.repeat, options.images, options.matrix = 1, 16, 512
        options.backbone, options.alpha, options.weights = "MobileNet", 0.25, "none"
        options.image_size, options.batch_size = 32, 8
    return options


def prefix_of(options: argparse.Namespace):
    """Return the frozen network up to the cut: RGB 0-255 in, features out."""
    import keras

    from tlkit.backbones.build import build_backbone
    from tlkit.features.cut import cut_of, prefix_to
    from tlkit.planning.freezing import plan_freeze

    keras.utils.set_random_seed(0)
    built = build_backbone(options.backbone, options.image_size, options.weights, options.alpha)
    if options.cut is None:
        pooled = keras.layers.GlobalAveragePooling2D()(built.features)
        return keras.Model(built.inputs, pooled)
    model = keras.Model(built.inputs, built.features)
    cut = cut_of(model, plan_freeze(built.layers, f"until={options.cut}", "frozen"))
    return prefix_to(model, cut.tensors)


def sides_of(prefix, batch_size: int) -> dict[str, Callable]:
    """Return for each side a function of an array of images that returns features."""
    import numpy as np

    from tlkit.compute.engines import ENGINES, build, is_installed

    def batch_by_batch(engine):
        def run(images):
            starts = range(0, len(images), batch_size)
            return np.concatenate([engine(images[i : i + batch_size]) for i in starts])

        return run

    return {
        KERAS: lambda images: prefix.predict(images, batch_size, verbose=0),
        **{
            f"tlkit's engine {name}": batch_by_batch(build(name, prefix))
            for name in ENGINES
            if is_installed(name)
        },
    }


def peaks(side: int) -> dict[str, Callable[[], None]]:
    """Return the matrix products whose better one is taken as the peak."""
    import numpy as np
    import tensorflow as tf

    a = np.random.default_rng(0).standard_normal((side, side), np.float32)
    b = tf.constant(a)
    return {"NumPy": lambda: a @ a, "TensorFlow": lambda: tf.matmul(b, b).numpy()}


def main() -> None:
    options = read_options()
    import numpy as np

    from tlkit.backbones.cost import layer_costs

    prefix = prefix_of(options)
    flops = 2 * sum(cost.multiply_adds for cost in layer_costs(prefix).values())
    shape = (options.images, options.image_size, options.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    sides, products = sides_of(prefix, options.batch_size), peaks(options.matrix)
    features = {side: work(images) for side, work in sides.items()}
    for product in products.values():
        product()
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    peak = []
    for _ in range(options.repeat):
        peak.append(max(rate(product, 2 * options.matrix**3) for product in products.values()))
        for side, work in sides.items():
            speeds[side].append(rate(lambda work=work: work(images), options.images))
    scale = features[KERAS].std()
    rows = [
        {
            "side": side,
            "images_a_second": median(speed),
            "gflops": median(speed) * flops / 1e9,
            "share_of_peak": median(speed) * flops / median(peak),
            "difference": f"{np.abs(features[side] - features[KERAS]).max() / scale:.1e}",
        }
        for side, speed in speeds.items()
    ]
    ratios = {
        f"{side} / {KERAS}": median(speeds[side]) / median(speeds[KERAS])
        for side in sides
        if side != KERAS
    }
    found = {"peak, GFLOP/s": median(peak) / 1e9, "network, MFLOP an image": flops / 1e6}
    report(options, rows, ratios, found)


if __name__ == "__main__":
    main()
