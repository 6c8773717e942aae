"""The recipe of Keras's guide "Transfer learning & fine-tuning", as a whole process of its own.

https://keras.io/guides/transfer_learning/ (2023/06/25). What is taken from it: images resized in
the input pipeline (`image_dataset_from_directory`, which the guide names for data of one's own),
`.prefetch().cache()`, so that images are decoded in the first epoch only; scaling to -1..1 in
the model; the base without top, frozen, called with `training=False`; global average pooling,
dropout 0.2, a Dense layer; Adam at 1e-3; then, with `--finetune-epochs`, the whole base unfrozen,
compiled anew with Adam at 1e-5. What is not its own: several classes instead of two, size, batch
and epochs as asked for (the guide: 150 pixels, 64, 2 + 1 epochs; its comment on the result speaks
of 10), and `--augment` has to be given for its random flip and rotation: without them a step is
cheaper, and the guide's `cache()` would draw them once for all epochs. Its model summaries and
images are left out.

`--batchnorm as-is` does what the guide's code does: under Keras 3 `fit` overrides `training=False`
as soon as BatchNorm is trainable again (keras#20285). `held` does what its text means: the base's
BatchNorm layers stay untrainable.

The last line on standard output is JSON: accuracies on the test part after each stage, and seconds
since the start of the process. guide.py runs it; by hand:

    python benchmarks/keras_guide.py FOLDER --epochs 10 --finetune-epochs 10 --batchnorm held

FOLDER holds train, validation and test, with class folders in each. With some 3,000 images of
224 pixels on two cores a frozen epoch takes about 45 s, one of fine-tuning about 100 s, and the
cache holds 2.5 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

BASES = ("MobileNetV2", "MobileNet", "Xception")
"""Applications whose weights take -1 to 1, as the guide's base does."""


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", choices=BASES, default=BASES[0])
    parser.add_argument("--alpha", type=float, help="width multiplier of the MobileNets")
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--finetune-epochs", type=int, default=0)
    parser.add_argument("--batchnorm", choices=("as-is", "held"), default="as-is")
    parser.add_argument("--augment", action="store_true", help="the guide's flip and rotation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--started",
        type=float,
        default=time.monotonic(),
        help="time.monotonic() of the caller when it started this process",
    )
    return parser.parse_args()


def load(options: argparse.Namespace, part: str):
    """Return the batches of a part, as the guide makes them."""
    import keras
    from tensorflow import data as tf_data

    size = options.image_size
    classes = sorted(folder.name for folder in (options.folder / "train").iterdir())
    dataset = keras.utils.image_dataset_from_directory(
        options.folder / part,
        class_names=classes,
        image_size=(size, size),
        batch_size=options.batch_size,
        shuffle=part == "train",
        seed=options.seed,
        verbose=False,
    )
    if options.augment and part == "train":
        flip = keras.layers.RandomFlip("horizontal")
        rotate = keras.layers.RandomRotation(0.1)
        dataset = dataset.map(lambda x, y: (rotate(flip(x)), y))
    return dataset.prefetch(tf_data.AUTOTUNE).cache(), len(classes)


def build(options: argparse.Namespace, classes: int):
    """Return the model and its frozen base."""
    import keras

    shape = (options.image_size, options.image_size, 3)
    base = getattr(keras.applications, options.backbone)(
        weights=None if options.weights == "none" else options.weights,
        input_shape=shape,
        include_top=False,
        **({} if options.alpha is None else {"alpha": options.alpha}),
    )
    base.trainable = False
    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    return keras.Model(inputs, keras.layers.Dense(classes)(x)), base


def unfreeze(base, batchnorm: str) -> None:
    """Make the base trainable, its BatchNorm too if taken as the guide is written."""
    import keras

    base.trainable = True
    if batchnorm == "held":
        for layer in base.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False


def main() -> None:
    options = read_options()
    import keras

    keras.utils.set_random_seed(options.seed)
    train, classes = load(options, "train")
    validation, test = (load(options, part)[0] for part in ("validation", "test"))
    model, base = build(options, classes)
    accuracy, seconds = {}, {"to_first_epoch": time.monotonic() - options.started}

    def stage(name: str, rate: float, epochs: int) -> None:
        model.compile(
            optimizer=keras.optimizers.Adam(rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        start = time.monotonic()
        model.fit(train, epochs=epochs, validation_data=validation, verbose=2)
        fitted = time.monotonic()
        accuracy[name] = model.evaluate(test, verbose=0)[1]
        seconds[f"{name}_fit"] = fitted - start
        seconds[f"{name}_test"] = time.monotonic() - fitted
        seconds[f"to_{name}_tested"] = time.monotonic() - options.started

    stage("frozen", 1e-3, options.epochs)
    if options.finetune_epochs:
        unfreeze(base, options.batchnorm)
        stage("finetuned", 1e-5, options.finetune_epochs)
    print(json.dumps({"accuracy": accuracy, "seconds": seconds}))


if __name__ == "__main__":
    main()
