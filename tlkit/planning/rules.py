"""Rules that turn the size of a data set into choices; pure functions, each with its source.

The regimes are those of the CS231n notes on transfer learning
(https://cs231n.github.io/transfer-learning/): little data, the CNN as a fixed feature extractor;
more, fine-tune the later layers; much, fine-tune through the whole network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALL_EXAMPLES = 1_000
"""Below this many training images the CNN stays a fixed feature extractor. Measured: with 612
training images of 12 flowers (51 a class) fine-tuning did not beat the head alone, with 3,000
of 5 flowers it did by several points (docs/results.md)."""

LARGE_EXAMPLES = 20_000
"""From here on the whole network is trained. BiT-HyperRule calls data sets below 20,000 examples
small and trains them the shortest (Kolesnikov et al. 2020, section 3.3)."""

FINETUNED_SHARE = 0.25
"""Share of the blocks that the medium regime trains. Measured with MobileNetV2 (19 blocks) on
3,068 images of 10 classes: from block 13 on 90.1-91.7%, all blocks 89.3%."""

FINETUNE_STEPS = 600
"""Training steps of 32 images that fine-tuning aims at where there are many images;
BiT-HyperRule gives small data sets 500 (Kolesnikov et al. 2020, section 3.3)."""

TINY_VALIDATION = 100
"""Below this many validation images a head's strength is chosen by cross-validation. Measured
on pooled features of MobileNet 0.25 (128 px), six seeds, loss on the images left over, chosen by
folds and by validation, with 24, 48, 100 and 200 validation images: 12 flowers 0.329 and 0.358,
0.256 and 0.259, 0.217 and 0.225, 0.2145 and 0.2135; 5 flowers 1.036 and 1.034, 0.961 and 0.973,
0.904 and 0.901, 0.873 and 0.873. The gain is clear with 24 of 12 flowers alone; accuracies differed
by half a point at most. Folds take about five times as long."""

RANKED_BY_FOLDS = 500
"""Below this many validation images backbones are compared over folds of training and validation
part. Measured on 12 flowers (108 for validation, 720 in all), five backbones, seeds 0, 1, 2:
correlation of the probe's accuracy with the test accuracy of full runs (medium regime, mean of the
seeds) 0.66, 0.90, -0.38 by validation, 0.76, 0.89, 0.92 over folds."""

VIEWS_SHARE = 0.1
"""Share of a time budget that the features of all views may take, for one cut; a run under a budget
computes features at up to four cuts."""

MOST_VIEWS = 4
"""Views of an image that are kept at most unless more are asked for. Measured with MobileNetV2 and
solved heads, test accuracy with 1 and with 4 light views, seeds 0, 1, 2: 12 flowers 97.1, 96.3,
96.7 and 97.5, 97.1, 97.5; 5 flowers 73.7, 69.9, 70.3 and 74.7, 71.1, 71.3."""

FEWEST_COPIES, MOST_COPIES, COPIES_SEEN = 4, 12, 1_000
"""Views of an image that are kept for a decoder: so many that it sees `COPIES_SEEN`, within these
bounds."""

FOLDS = 5
"""Folds of that cross-validation (Hastie, Tibshirani & Friedman 2009, section 7.10.1)."""

MIN_EPOCHS, MAX_EPOCHS = 3, 6
"""Epochs of fine-tuning, for many images and for few. Measured in the medium regime, test
accuracy, mean of seeds 0, 1, 2, with 3, 6, 12 and 20 epochs of MobileNet 0.25 at 128 px: 12 flowers
(612 training images) 94.0, 93.8, 93.6, 93.5; solar cells (ELPV, 1,837) 83.1, 83.9, 83.1, 84.4; 5
flowers (3,023) 71.5, 72.8, 73.3, 74.7. MobileNetV2, 12 flowers, with 6 and 20: 97.0, 97.5. On few
images more than 6 gained nothing that three seeds can tell, in two to three times the time."""

HEAD_EPOCHS = 50

DECODER_IMAGES = 2_800
"""Images that a decoder is fitted on, over all its epochs: 350 steps of 8. Measured with 199 images
of persons (MobileNetV2, 224 px, Adam at 1e-3, 5 views): validation mean IoU 0.848, 0.886, 0.896,
0.898, 0.901 after 2, 4, 7, 9, 14 epochs, and no more until 20."""

DECODER_EPOCHS = (6, 150)
"""Fewest and most epochs of that."""

DETECTOR_IMAGES = 8_000
"""Images that a detector is fitted on, over all its epochs. Measured with MobileNetV2 at 320 px,
test AP50, AP, AP75: raccoons (142 images, seed 3) 0.887, 0.437, 0.345 after 28 epochs, 0.911,
0.469, 0.335 after 56. At the rate of `decoder_rate`; twice as high a rate is better on blood cells
(205 images, 20 epochs, seed 3: 0.809, 0.461, 0.483 and 0.826, 0.481, 0.527), and unsteady on
raccoons (56 epochs: 0.932, 0.537, 0.525 with seed 3, 0.919, 0.336, 0.147 with seed 0, 0.837, 0.372,
0.188 with seed 1)."""

DETECTOR_EPOCHS = (10, 150)
"""Fewest and most epochs of that."""

BOX_IMAGES = 12_000
"""Images that fine-tuning for boxes sees over all its epochs. Measured with MobileNetV2 on 503
images of three classes (8 kept views, Adam at 2e-4 on a cosine over 24 epochs, seed 0): validation
mean IoU 0.845 of the solved head, 0.863, 0.873, 0.872 after 12, 20, 24 epochs."""

BOX_EPOCHS = (6, 60)
"""Fewest and most epochs of that."""


@dataclass(frozen=True)
class Choice:
    """A value with the reason why it was chosen; printed by `tlkit plan`."""

    value: object
    reason: str


def choose_regime(examples: int, classes: int = 0, pretrained: bool = True) -> Choice:
    """Return `small`, `medium` or `large` for this many training examples.

    Args:
        classes: number of classes, for the reason alone; 0 where there are none.
        pretrained: whether the backbone has pretrained weights.
    """
    if not pretrained:
        return Choice("large", "no pretrained weights: there is nothing worth freezing")
    size = f"{examples:,} training examples"
    if classes:
        size += f", {examples / classes:,.0f} a class"
    if examples < SMALL_EXAMPLES:
        return Choice("small", f"{size}: fewer than {SMALL_EXAMPLES:,}, the CNN stays frozen")
    if examples < LARGE_EXAMPLES:
        return Choice("medium", f"{size}: {SMALL_EXAMPLES:,} to {LARGE_EXAMPLES:,}")
    return Choice("large", f"{size}: {LARGE_EXAMPLES:,} or more")


def blocks_to_train(regime: str, blocks: int) -> Choice:
    """Return how many of the backbone's last `blocks` the fine-tuning phase of `regime` trains."""
    if regime == "small":
        return Choice(0, "small: feature extraction, only the head is trained")
    if regime == "large":
        return Choice(blocks, "large: all blocks are trained")
    last = max(1, math.ceil(FINETUNED_SHARE * blocks))
    return Choice(last, f"medium: the last quarter of the blocks, {last} of {blocks}")


def strength_choice(validation: int) -> Choice:
    """Return how the L2 strength of a solved head is chosen: on `validation`, or by `folds`."""
    size = f"{validation:,} validation images"
    if validation < TINY_VALIDATION:
        return Choice("folds", f"{size}: fewer than {TINY_VALIDATION}")
    return Choice("validation", f"{size}: {TINY_VALIDATION} or more")


def views(budget: float, features: float) -> Choice:
    """Return of how many views of each training image a run under a budget keeps features.

    Args:
        budget: seconds of the run.
        features: seconds that the features of one view take.
    """
    count = max(1, min(MOST_VIEWS, int(VIEWS_SHARE * budget / max(features, 1e-6))))
    return Choice(count, f"one takes about {features:.0f} s of {budget:.0f}")


def dense_copies(examples: int) -> int:
    """Return of how many views of each of `examples` images a decoder gets the kept features."""
    return max(FEWEST_COPIES, min(MOST_COPIES, round(COPIES_SEEN / max(1, examples))))


def depths(blocks: int) -> tuple[int, ...]:
    """Return how many of the last `blocks` a run under a budget trains, phase after phase.

    An eighth, a quarter, half and all of them: each about doubles what is trained.
    """
    return tuple(sorted({math.ceil(blocks / part) for part in (8, 4, 2, 1)}))


def decoder_rate(phase: str, optimizer: str, batch_size: int) -> Choice:
    """Return the peak learning rate of a fitted phase of a network with a decoder.

    As `learning_rate` has it, but that of new layers is twice as high under Adam. Measured as for
    `DECODER_IMAGES`, on a cosine over 14 epochs: validation mean IoU 0.892 at 1e-3, 0.902 at 2e-3.
    Fine-tuning of the last quarter of the blocks after that: IoU of persons on the 60 test images
    0.870 before, 0.885 after Adam at 5e-5; SGD at 2.5e-4 moved nothing (one seed each). Hence Adam
    is the default there.
    """
    choice = learning_rate(phase, optimizer, batch_size)
    if phase == "finetune" or optimizer == "sgd":
        return choice
    return Choice(2 * choice.value, f"twice {choice.reason}: few steps, on a cosine")


def decoder_epochs(phase: str, examples: int) -> Choice:
    """Return the epochs of a fitted phase of a network with a decoder.

    Fine-tuning takes half of what the decoder alone is fitted for: it starts from there.
    """
    images = DECODER_IMAGES if phase != "finetune" else DECODER_IMAGES // 2
    fewest, most = DECODER_EPOCHS
    count = max(fewest, min(most, round(images / max(1, examples))))
    return Choice(count, f"{images:,} images are aimed at, {fewest} to {most} epochs")


def detector_epochs(phase: str, examples: int) -> Choice:
    """Return the epochs of a fitted phase of a detector; fine-tuning takes a third of them."""
    images = DETECTOR_IMAGES if phase != "finetune" else DETECTOR_IMAGES // 3
    fewest, most = DETECTOR_EPOCHS
    count = max(fewest, min(most, round(images / max(1, examples))))
    return Choice(count, f"{images:,} images are aimed at, {fewest} to {most} epochs")


def box_rate(optimizer: str, batch_size: int) -> Choice:
    """Return the peak learning rate of fine-tuning for boxes: that of Adam, which is the default
    there, is twice as high as `learning_rate` has it; see `BOX_IMAGES`."""
    choice = learning_rate("finetune", optimizer, batch_size)
    return choice if optimizer == "sgd" else Choice(2 * choice.value, f"twice {choice.reason}")


def box_epochs(examples: int) -> Choice:
    """Return the epochs of fine-tuning for boxes."""
    fewest, most = BOX_EPOCHS
    count = max(fewest, min(most, round(BOX_IMAGES / max(1, examples))))
    return Choice(count, f"{BOX_IMAGES:,} images are aimed at, {fewest} to {most} epochs")


def epochs(phase: str, examples: int, batch_size: int) -> Choice:
    """Return the most epochs of a fitted phase; early stopping may end it before."""
    if phase != "finetune":
        return Choice(HEAD_EPOCHS, "an upper bound, early stopping ends it")
    images = FINETUNE_STEPS * 32
    count = min(MAX_EPOCHS, max(MIN_EPOCHS, round(images / max(1, examples))))
    steps = count * math.ceil(examples / batch_size)
    return Choice(count, f"{steps:,} steps of {batch_size}; {FINETUNE_STEPS} of 32 are aimed at")


def learning_rate(phase: str, optimizer: str, batch_size: int) -> Choice:
    """Return the peak learning rate of a fitted phase.

    Fine-tuning: SGD at 1e-3 for 32 images, linear in the batch size (Goyal et al. 2017); Adam at
    1e-4, by its square root (Malladi et al. 2022). SGD at 3e-3 diverged on 612 images of 12
    flowers (MobileNetV2 from a solved head, BatchNorm frozen), and a bound on the gradient's norm
    that made it stable cost 1-4 points of validation on 5 flowers.

    Other choices gained nothing on all of three data sets (those of `MAX_EPOCHS`, three seeds each;
    mean test accuracy over them, MobileNet 0.25, 8 epochs): as it is 82.9; rate 5e-4 83.2, 2e-3
    83.7; Adam 83.8; block_decay 0.8 83.3, 0.6 83.2; label_smoothing 0.1 82.5; weight_decay 1e-3
    83.6; head.dropout 0 83.6; ema 0.99 84.1, with Adam 84.3. The last two with MobileNetV2 and 6
    epochs, 12 flowers, cells, 5 flowers: as it is 97.0, 87.2, 77.6; ema 96.9, 85.9, 77.6; ema and
    Adam 97.5, 87.4, 75.5. The whole network of MobileNet 0.25, augmented, 6 epochs: SGD 94.0, 84.4,
    72.6; Adam 94.4, 82.7, 72.6. Hence they are off, and SGD stays.

    New layers take the usual rates of their optimizer, 1e-3 for Adam (Kingma & Ba 2015), 1e-2 for
    SGD.
    """
    if phase != "finetune":
        rate = 1e-2 if optimizer == "sgd" else 1e-3
        return Choice(rate, f"the usual rate of {optimizer} for new layers")
    times = batch_size / 32
    if optimizer == "sgd":
        return Choice(1e-3 * times, "0.001 for 32 images, linear in the batch size")
    rate = 1e-4 * math.sqrt(times)
    return Choice(rate, "0.0001 for 32 images, by the square root of the batch size")


def rescaled_rate(rate: float, phase: str, optimizer: str, before: int, after: int) -> float:
    """Return the rate for batches of `after` that fits what `rate` is for batches of `before`.

    It is `learning_rate`'s rule, applied to the ratio: linear for SGD (Goyal et al. 2017, section
    2.1), by the square root for Adam (Malladi et al. 2022), unchanged for new layers.
    """
    if before == after:  # to the bit
        return rate
    phase = phase.partition("-")[0]  # later phases of a budget are numbered: finetune-2
    now, then = (float(learning_rate(phase, optimizer, b).value) for b in (after, before))
    return rate * now / then
