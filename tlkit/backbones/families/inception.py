"""InceptionV3 (Szegedy et al. 2015), Inception-ResNet-V2 (2016), Xception (Chollet 2016)."""

from __future__ import annotations

from tlkit.backbones.families.row import STORAGE, Backbone, both_files, numbered

_KERNELS = "weights_tf_dim_ordering_tf_kernels"

ROWS = (
    # Of both Inceptions Keras names little more than the last layer of a block; the rest is
    # numbered (conv2d_57), with numbers that go on counting over all models of a session.
    Backbone(
        "InceptionV3",
        "keras.applications:InceptionV3",
        "inception_v3",
        "tf",
        299,
        75,
        (
            ("stem", ""),
            *numbered((f"mixed{n}" for n in range(9)), "{}"),
            ("mixed9", "mixed9|mixed9_0"),
            ("mixed10", "mixed10|mixed9_1"),
        ),
        21_802_784,
        77.9,
        unnamed="consumer",
        weights=both_files(
            f"{STORAGE}/inception_v3",
            f"inception_v3_{_KERNELS}",
            ("9a0d58056eeedaa3f26cb7ebd46da564", "bcbd6486424b2319ff4ef7d526e38f63"),
        ),
    ),
    Backbone(
        "InceptionResNetV2",
        "keras.applications:InceptionResNetV2",
        "inception_resnet_v2",
        "tf",
        299,
        75,
        (
            ("stem", ""),
            ("mixed_5b", "mixed_5b"),
            *numbered((f"block35_{n}" for n in range(1, 11)), "{}_.*"),
            ("mixed_6a", "mixed_6a"),
            *numbered((f"block17_{n}" for n in range(1, 21)), "{}_.*"),
            ("mixed_7a", "mixed_7a"),
            *numbered((f"block8_{n}" for n in range(1, 10)), "{}_.*"),
            # The last sum of block8_10 has no name: between it and conv_7b is no boundary that
            # could be told by names.
            ("block8_10", "block8_10_.*|conv_7b.*"),
        ),
        54_336_736,
        80.3,
        unnamed="consumer",
        weights=both_files(
            f"{STORAGE}/inception_resnet_v2",
            f"inception_resnet_v2_{_KERNELS}",
            ("e693bd0210a403b3192acc6073ad2e96", "d19885ff4a710c122648d3b5c3b684e4"),
        ),
    ),
    Backbone(
        "Xception",
        "keras.applications:Xception",
        "xception",
        "tf",
        299,
        71,
        numbered((f"block{n}" for n in range(1, 15)), "{}_.*"),
        20_861_480,
        79.0,
        weights=both_files(
            f"{STORAGE}/xception",
            f"xception_{_KERNELS}",
            ("0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"),
        ),
    ),
)
