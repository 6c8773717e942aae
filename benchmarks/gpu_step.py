"""A training step on the JAX backend against the chip's own limit: images a second, share of peak.

For ResNet50 and MobileNetV2 from `tlkit.applications` in mixed bfloat16, 224 pixels, 1,000 classes,
SGD with momentum: `full`, every layer trained, BatchNorm's statistics held; and `frozen`, the head
trained on a frozen base. The step is Keras's stateless step compiled by JAX, as `fit` compiles it,
run on a batch that lies on the device (uint8, scaled there), so that the chip and not the input
pipeline is measured. The limit is a large square bfloat16 matrix product timed in the same rounds.
TensorFlow is not imported, which is checked at the end.

    python benchmarks/gpu_step.py --json gpu.json
    python benchmarks/gpu_step.py --backbones ResNet50 --batch-size 512 --steps 50

It prints for each network and round images a second, and as ratios the share of the matrix
product's FLOP/s that the step's convolutions and matrix products come to: two operations a
multiply-add, forward once, and twice again for the gradients where all is trained. Depthwise
networks stay far below one by their nature: they move more bytes than they compute on. Time:
some 3 minutes on a GPU, most of it compiling; without one only `--smoke` makes sense (15 s).
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial

os.environ["KERAS_BACKEND"] = "jax"

from figures import median, parser, rate, report

CLASSES = 1000
KINDS = {"full": "none", "frozen": "all"}


def read_options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--backbones", nargs="+", default=["ResNet50", "MobileNetV2"])
    made.add_argument("--batch-size", type=int, default=256)
    made.add_argument("--image-size", type=int, default=224)
    made.add_argument("--steps", type=int, default=30, help="timed in a round")
    made.add_argument("--matrix", type=int, default=16384, help="side of the matrix product")
    made.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    options = made.parse_args()
    if options.smoke:
        options.repeat, options.steps, options.matrix = 1, 2, 512
        options.backbones, options.batch_size, options.image_size = ["MobileNet"], 4, 32
    return options


def build(options: argparse.Namespace, backbone: str, kind: str):
    """Return a model: RGB 0-255 in, probabilities out."""
    import keras

    import tlkit.applications

    bfloat16 = options.precision == "bfloat16"
    keras.config.set_dtype_policy("mixed_bfloat16" if bfloat16 else "float32")
    return getattr(tlkit.applications, backbone)(
        weights=None,
        classes=CLASSES,
        input_shape=(options.image_size, options.image_size, 3),
        head={},
        freeze=KINDS[kind],
        batchnorm="frozen",
        include_preprocessing=True,
    )


def step_of(options: argparse.Namespace, model):
    """Return a function that makes `--steps` steps and waits for the last."""
    import jax
    import jax.numpy as jnp
    import keras
    import numpy as np

    optimizer = keras.optimizers.SGD(1e-3, momentum=0.9)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy()
    random = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    x = jax.device_put(random.integers(0, 256, shape, np.uint8))
    y = jax.device_put(random.integers(0, CLASSES, options.batch_size))

    def loss_of(trainable, other, x, y):
        out, other = model.stateless_call(trainable, other, x.astype("float32"), training=True)
        return loss(y, out), other

    @partial(jax.jit, donate_argnums=0)
    def step(state, x, y):
        trainable, other, slots = state
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (value, other), gradients = gradient(trainable, other, x, y)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, other, slots), value

    lists = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    # Copies: what the step is given it may overwrite, and the model keeps its own.
    held = [tuple([jnp.array(variable.value) for variable in part] for part in lists)]

    def steps() -> None:
        for _ in range(options.steps):
            held[0], value = step(held[0], x, y)
        if not np.isfinite(float(value)):
            raise SystemExit("the loss is not finite: nothing worth timing")

    return steps


def matrix_product(options: argparse.Namespace):
    """Return a function that makes ten matrix products, and its FLOPs."""
    import jax
    import jax.numpy as jnp

    side = options.matrix
    a = jax.random.normal(jax.random.key(0), (side, side), jnp.dtype(options.precision))
    a = a / side**0.5  # keeps the products' values where they are

    @jax.jit
    def products(x):
        return jax.lax.fori_loop(0, 10, lambda _, x: x @ a, x)

    return lambda: products(a).block_until_ready(), 10 * 2 * side**3


def flops_an_image(model, kind: str) -> int:
    """Return the operations of a step on one image, by the multiply-adds of its layers."""
    from tlkit.backbones.cost import layer_costs

    forward = 2 * sum(cost.multiply_adds for cost in layer_costs(model).values())
    return forward * (3 if kind == "full" else 1)


def main() -> None:
    options = read_options()
    import jax

    device = jax.devices()[0]
    print(f"device {device.device_kind} ({device.platform}), {options.precision}", flush=True)
    product, product_flops = matrix_product(options)
    product()
    rows, ratios, figures = [], {}, {}
    for backbone in options.backbones:
        for kind in KINDS:
            model = build(options, backbone, kind)
            steps, flops = step_of(options, model), flops_an_image(model, kind)
            steps()
            images = options.steps * options.batch_size
            mine = []
            for i in range(options.repeat):
                peak, speed = rate(product, product_flops), rate(steps, images)
                share = speed * flops / peak
                mine.append({"backbone": backbone, "step": kind, "round": i + 1})
                mine[-1] |= {"images_a_second": speed, "peak_tflops": peak / 1e12, "share": share}
            rows += mine
            name = f"{backbone} {kind}"
            ratios[f"{name}, share of the matrix product"] = median(r["share"] for r in mine)
            figures[f"{name}, images a second"] = median(r["images_a_second"] for r in mine)
    report(options, rows, ratios, figures)
    if "tensorflow" in sys.modules:
        raise SystemExit("TensorFlow was imported: this was to run without it")


if __name__ == "__main__":
    main()
