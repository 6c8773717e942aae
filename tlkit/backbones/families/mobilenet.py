"""MobileNet (Howard et al. 2017), MobileNetV2 (Sandler et al. 2018), V3 (Howard et al. 2019)."""

from __future__ import annotations

from tlkit.backbones.families.row import STORAGE, Backbone, WeightsFile, both_files, numbered

_ALPHAS_V1 = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}
_ALPHAS_V2 = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_SIZES_V1 = (128, 160, 192, 224)
_SIZES_V2 = (96, *_SIZES_V1)

# Keras states no hash for the files of MobileNet and MobileNetV2. Hashes of copies found elsewhere
# could not be known to be the official ones, so there are none here either.


def _files_v1() -> tuple[WeightsFile, ...]:
    return tuple(
        WeightsFile(name, f"{STORAGE}/mobilenet/{name}", top, None, {"alpha": alpha, "size": size})
        for alpha, text in _ALPHAS_V1.items()
        for size in _SIZES_V1
        for top in (True, False)
        for name in [f"mobilenet_{text}_{size}_tf{'' if top else '_no_top'}.h5"]
    )


def _files_v2() -> tuple[WeightsFile, ...]:
    stem = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels"
    return tuple(
        WeightsFile(
            name, f"{STORAGE}/mobilenet_v2/{name}", top, None, {"alpha": alpha, "size": size}
        )
        for alpha in _ALPHAS_V2
        for size in _SIZES_V2
        for top in (True, False)
        for name in [f"{stem}_{alpha}_{size}{'' if top else '_no_top'}.h5"]
    )


_HASHES_V3 = {
    ("large", 0.75, False): (
        "765b44a33ad4005b3ac83185abf1d0eb",
        "40af19a13ebea4e2ee0c676887f69a2e",
    ),
    ("large", 1.0, False): (
        "59e551e166be033d707958cf9e29a6a7",
        "07fb09a5933dd0c8eaafa16978110389",
    ),
    ("large", 1.0, True): (
        "675e7b876c45c57e9e63e6d90a36599c",
        "ec5221f64a2f6d1ef965a614bdae7973",
    ),
    ("small", 0.75, False): (
        "cb65d4e5be93758266aa0a7f2c6708b7",
        "ebdb5cc8e0b497cd13a7c275d475c819",
    ),
    ("small", 1.0, False): (
        "8768d4c2e7dee89b9d02b2d03d65d862",
        "d3e8ec802a04aa4fc771ee12a9a9b836",
    ),
    ("small", 1.0, True): (
        "99cd97fb2fcdad2bf028eb838de69e37",
        "cde8136e733e811080d9fcd8a252f7e4",
    ),
}


def _files_v3(kind: str) -> tuple[WeightsFile, ...]:
    return tuple(
        file
        for (model, alpha, minimalistic), hashes in _HASHES_V3.items()
        if model == kind
        for file in both_files(
            f"{STORAGE}/mobilenet_v3",
            f"weights_mobilenet_v3_{kind}{'_minimalistic' if minimalistic else ''}"
            f"_224_{alpha}_float",
            hashes,
            "_no_top_v2",
            alpha=alpha,
            minimalistic=minimalistic,
        )
    )


def _v3(name: str, kind: str, blocks: int, parameters: int, top1: float) -> Backbone:
    return Backbone(
        name,
        f"keras.applications:{name}",
        "mobilenet_v3",
        "inside",
        224,
        32,
        (
            ("stem", r"rescaling.*|conv|conv_bn"),
            ("expanded_conv", r"expanded_conv_(?!\d+_).*"),
            *numbered((f"expanded_conv_{n}" for n in range(1, blocks)), "{}_.*"),
            ("top", "conv_1|conv_1_bn"),
        ),
        parameters,
        top1,
        tail=r"(activation|re_lu)(_\d+)?",
        arguments={"alpha": (0.75, 1.0), "minimalistic": (False, True)},
        fixed={"include_preprocessing": True},
        weights=_files_v3(kind),
    )


ROWS = (
    Backbone(
        "MobileNet",
        "keras.applications:MobileNet",
        "mobilenet",
        "tf",
        224,
        32,
        (
            ("stem", "conv1.*"),
            *((f"block_{n}", rf"conv_(dw|pw)_{n}(_bn|_relu)?|conv_pad_{n}") for n in range(1, 14)),
        ),
        3_228_864,
        70.4,
        arguments={"alpha": tuple(_ALPHAS_V1)},
        sizes=_SIZES_V1,
        weights=_files_v1(),
    ),
    Backbone(
        "MobileNetV2",
        "keras.applications:MobileNetV2",
        "mobilenet_v2",
        "tf",
        224,
        32,
        (
            ("stem", "Conv1|bn_Conv1|Conv1_relu"),
            ("expanded_conv", "expanded_conv_.*"),
            *numbered((f"block_{n}" for n in range(1, 17)), "{}_.*"),
            ("top", "Conv_1|Conv_1_bn|out_relu"),
        ),
        2_257_984,
        71.3,
        arguments={"alpha": _ALPHAS_V2},
        sizes=_SIZES_V2,
        weights=_files_v2(),
    ),
    # Top-1: the table in the constructors' documentation (keras/src/applications/mobilenet_v3.py).
    _v3("MobileNetV3Small", "small", 11, 939_120, 68.1),
    _v3("MobileNetV3Large", "large", 15, 2_996_352, 75.6),
)
