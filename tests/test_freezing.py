"""Freeze rules: the grammar, its errors, and where a plan lets the model be cut."""

from __future__ import annotations

import keras
import pytest

from tlkit.backbones.catalog import LayerInfo
from tlkit.errors import FreezeError
from tlkit.planning.freezing import apply_plan, block_names, plan_freeze

LAYERS = tuple(
    LayerInfo(f"{block}_{kind}", block, {"conv": 100, "bn": 8, "relu": 0}[kind], kind == "bn")
    for block in ("stem", "block_1", "block_2", "block_10", "top")
    for kind in ("conv", "bn", "relu")
)
NAMES = [layer.name for layer in LAYERS]


def frozen(rule: str) -> list[str]:
    plan = plan_freeze(LAYERS, rule)
    assert plan.rule == rule
    return [name for name in NAMES if name in plan.frozen]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("all", NAMES),
        ("none", []),
        ("until=stem", NAMES[:3]),
        ("until=block_1", NAMES[:6]),
        ("until=block_1_conv", NAMES[:4]),
        ("until=top", NAMES),
        ("last=0", NAMES),
        ("last=1", NAMES[:12]),
        ("last=4", NAMES[:3]),
        ("layers=0:2", NAMES[:2]),
        ("layers=:2", NAMES[:2]),
        ("layers=13:", NAMES[13:]),
        ("layers=:-1", NAMES[:-1]),
        ("layers=-2:", NAMES[-2:]),
        ("re=stem_.*", NAMES[:3]),
        ("re=.*_bn", NAMES[1::3]),
        ("until=stem,re=top_conv", [*NAMES[:3], "top_conv"]),
        (" until=stem , re=top_conv ", [*NAMES[:3], "top_conv"]),
        ("all,-last=1", NAMES[12:]),
        ("until=block_1,-re=.*_bn", ["stem_conv", "stem_relu", "block_1_conv", "block_1_relu"]),
        ("all,-all", []),
        ("-re=.*_bn,all", NAMES),
        ("none,until=stem", NAMES[:3]),
    ],
)
def test_rules_freeze_what_they_say(rule, expected):
    assert frozen(rule) == expected


def test_a_pattern_must_match_in_full():
    assert frozen("re=stem_bn|top") == ["stem_bn"]


def test_a_minus_gives_back_what_a_rule_took():
    assert set(frozen("all,-until=block_2")) | set(frozen("until=block_2")) == set(NAMES)
    assert not set(frozen("all,-until=block_2")) & set(frozen("until=block_2"))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("until=blok_2", "no block or layer is called 'blok_2'. Did you mean 'block_2'?"),
        ("until=block_3", "Blocks: stem, block_1, block_2, block_10, top"),
        ("until=stem_convv", "Did you mean 'stem_conv'?"),
        ("until=", "no block or layer is called ''"),
        ("untl=stem", "cannot read 'untl=stem'. Did you mean 'until'?"),
        ("block_2", "cannot read 'block_2'"),
        ("", "cannot read ''"),
        ("all,", "cannot read ''"),
        ("al", "Did you mean 'all'?"),
        ("last=5", "last=N takes a number of blocks. Allowed: 0 to 4. Received: '5'"),
        ("last=-1", "Received: '-1'"),
        ("last=many", "Received: 'many'"),
        ("last=\N{SUPERSCRIPT TWO}", "last=N takes a number of blocks"),
        ("layers=3", "layers=A:B takes a Python slice such as layers=0:100. Received: '3'"),
        ("layers=a:b", "Received: 'a:b'"),
        ("layers=-:3", "Received: '-:3'"),
        ("layers=0:9:2", "Received: '0:9:2'"),
        ("layers=5:5", "'layers=5:5' matches no layer"),
        ("layers=99:", "'layers=99:' matches no layer"),
        ("re=conv", "'re=conv' matches no layer"),
        ("re=(", "'(' is not a regular expression"),
        ("all,-re=nothing", "'re=nothing' matches no layer"),
    ],
)
def test_rules_that_cannot_be_followed(rule, words):
    with pytest.raises(FreezeError) as caught:
        plan_freeze(LAYERS, rule)
    assert str(caught.value).startswith(f"freeze rule {rule!r}: ")
    assert words in str(caught.value)


def test_what_cannot_be_read_is_answered_with_all_forms():
    with pytest.raises(FreezeError, match=r"Allowed: auto, all, none, until=BLOCK_OR_LAYER, last"):
        plan_freeze(LAYERS, "frozen")


@pytest.mark.parametrize(
    ("rule", "cut"),
    [
        ("all", "top"),
        ("none", None),
        ("until=block_1", "block_1"),
        ("until=block_2_conv", "block_1"),
        ("last=1", "block_10"),
        ("layers=1:", None),
        ("all,-re=block_2_bn", "block_1"),
        ("all,-re=stem_bn", None),
        ("re=top_.*", None),
        ("until=stem,re=block_2_.*", "stem"),
    ],
)
def test_the_cut_is_the_deepest_block_below_which_all_is_frozen(rule, cut):
    assert plan_freeze(LAYERS, rule).cut == cut


def test_table_has_a_row_for_each_block():
    rows = plan_freeze(LAYERS, "until=block_1,re=top_bn").table()
    assert [row.block for row in rows] == block_names(LAYERS)
    assert [row.state for row in rows] == ["frozen", "frozen", "trained", "trained", "1 frozen"]
    assert {(row.layers, row.parameters, row.batchnorms) for row in rows} == {(3, 108, 1)}


def test_all_frozen():
    assert plan_freeze(LAYERS, "all").all_frozen
    assert not plan_freeze(LAYERS, "all,-re=top_relu").all_frozen


# Applied to a model


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)  # with another seed every ReLU may be dead
    inputs = x = keras.Input((8, 8, 3))
    for block in block_names(LAYERS):
        x = keras.layers.Conv2D(4, 1, use_bias=False, name=f"{block}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{block}_bn")(x)
        x = keras.layers.ReLU(name=f"{block}_relu")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="head")(x))


def trainable(model: keras.Model) -> set[str]:
    return {v.path for v in model.trainable_variables}


def test_the_head_is_always_trained(model):
    for layer in model.layers:
        layer.trainable = False
    apply_plan(model, plan_freeze(LAYERS, "all"))
    assert trainable(model) == {"head/kernel", "head/bias"}


def test_frozen_batchnorm_is_frozen_in_trained_blocks_too(model):
    apply_plan(model, plan_freeze(LAYERS, "until=block_10", "frozen"))
    assert trainable(model) == {"top_conv/kernel", "head/kernel", "head/bias"}


def test_trained_batchnorm_is_trained_where_it_is_not_frozen(model):
    apply_plan(model, plan_freeze(LAYERS, "until=block_10", "train"))
    assert model.get_layer("top_bn").trainable
    assert not model.get_layer("block_10_bn").trainable
    assert {"top_bn/gamma", "top_bn/beta"} < trainable(model)


def test_affine_batchnorm_trains_scale_and_offset_and_holds_its_statistics(model):
    apply_plan(model, plan_freeze(LAYERS, "until=block_10", "affine"))
    assert {"top_bn/gamma", "top_bn/beta"} < trainable(model)
    assert "block_10_bn/gamma" not in trainable(model)
    norm = model.get_layer("top_bn")
    before = [v.numpy().copy() for v in (norm.moving_mean, norm.moving_variance)]
    gamma = norm.gamma.numpy().copy()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = keras.random.uniform((16, 8, 8, 3), 0, 5, seed=0)
    model.fit(x, keras.ops.ones((16, 8, 8, 2)), epochs=1, verbose=0)
    after = [v.numpy() for v in (norm.moving_mean, norm.moving_variance)]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert (gamma != norm.gamma.numpy()).any()


@pytest.mark.parametrize("first", ["frozen", "affine", "train"])
@pytest.mark.parametrize("then", ["frozen", "affine", "train"])
def test_a_plan_leaves_nothing_of_the_one_before(model, first, then):
    apply_plan(model, plan_freeze(LAYERS, "none", then))
    wanted = trainable(model)
    apply_plan(model, plan_freeze(LAYERS, "until=block_2", first))
    apply_plan(model, plan_freeze(LAYERS, "none", then))
    assert trainable(model) == wanted
