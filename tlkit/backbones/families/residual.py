"""VGG (Simonyan & Zisserman 2014), ResNet and ResNetV2 (He et al. 2015, 2016), DenseNet (2016)."""

from __future__ import annotations

from tlkit.backbones.families.row import STORAGE, Backbone, Blocks, both_files, numbered

_KERNELS = "weights_tf_dim_ordering_tf_kernels"


def _stages(counts: tuple[int, ...], pool: bool = False) -> Blocks:
    """Return blocks named `conv2_block1` and so on; with `pool` a transition after each stage."""
    last = len(counts) + 1
    blocks: Blocks = ()
    for stage, count in enumerate(counts, start=2):
        blocks += numbered((f"conv{stage}_block{n}" for n in range(1, count + 1)), "{}_.*")
        if pool and stage < last:
            blocks += numbered([f"pool{stage}"], "{}_.*")
    return blocks


def _resnet(
    name: str,
    counts: tuple[int, ...],
    parameters: int,
    top1: float,
    hashes: tuple[str, str],
) -> Backbone:
    second = name.endswith("V2")
    return Backbone(
        name,
        f"keras.applications:{name}",
        "resnet_v2" if second else "resnet",
        "tf" if second else "caffe",
        224,
        32,
        (
            ("stem", "conv1_.*|pool1_.*"),
            *_stages(counts),
            *((("top", "post_bn|post_relu"),) if second else ()),
        ),
        parameters,
        top1,
        weights=both_files(f"{STORAGE}/resnet", f"{name.lower()}_{_KERNELS}", hashes),
    )


def _densenet(
    depth: int, counts: tuple[int, ...], parameters: int, top1: float, hashes: tuple[str, str]
) -> Backbone:
    return Backbone(
        f"DenseNet{depth}",
        f"keras.applications:DenseNet{depth}",
        "densenet",
        "torch",
        224,
        32,
        (("stem", "conv1_.*|pool1"), *_stages(counts, pool=True), ("top", "bn|relu")),
        parameters,
        top1,
        weights=both_files(f"{STORAGE}/densenet", f"densenet{depth}_{_KERNELS}", hashes),
    )


def _vgg(depth: int, parameters: int, top1: float, hashes: tuple[str, str]) -> Backbone:
    return Backbone(
        f"VGG{depth}",
        f"keras.applications:VGG{depth}",
        f"vgg{depth}",
        "caffe",
        224,
        32,
        numbered((f"block{n}" for n in range(1, 6)), "{}_.*"),
        parameters,
        top1,
        normalisation="none",
        weights=both_files(f"{STORAGE}/vgg{depth}", f"vgg{depth}_{_KERNELS}", hashes),
    )


ROWS = (
    _vgg(
        16, 14_714_688, 71.3,
        ("64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
    ),
    _vgg(
        19, 20_024_384, 71.3,
        ("cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
    ),
    _resnet(
        "ResNet50", (3, 4, 6, 3), 23_587_712, 74.9,
        ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    ),
    _resnet(
        "ResNet101", (3, 4, 23, 3), 42_658_176, 76.4,
        ("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    ),
    _resnet(
        "ResNet152", (3, 8, 36, 3), 58_370_944, 76.6,
        ("100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    ),
    _resnet(
        "ResNet50V2", (3, 4, 6, 3), 23_564_800, 76.0,
        ("3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"),
    ),
    _resnet(
        "ResNet101V2", (3, 4, 23, 3), 42_626_560, 77.2,
        ("6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"),
    ),
    _resnet(
        "ResNet152V2", (3, 8, 36, 3), 58_331_648, 78.0,
        ("a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"),
    ),
    _densenet(
        121, (6, 12, 24, 16), 7_037_504, 75.0,
        ("9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"),
    ),
    _densenet(
        169, (6, 12, 32, 32), 12_642_880, 76.2,
        ("d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b"),
    ),
    _densenet(
        201, (6, 12, 48, 32), 18_321_984, 77.3,
        ("1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1"),
    ),
)  # fmt: skip
