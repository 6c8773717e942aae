"""Words that people type: options of other tools, leaf names, names in any case, Keras's words."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from conftest import TINY, shared_env

import tlkit
from tlkit.backbones.catalog import CATALOG, catalog_name
from tlkit.cli.main import main
from tlkit.errors import SpecError
from tlkit.planning.freeze_rule import check_rule
from tlkit.spec.read import make_spec
from tlkit.spec.words import ALIASES, INSTEAD, LEAVES, place_of, placed


def refused(*arguments):
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exit_code == 2, done.output
    return done.stderr


def asked(monkeypatch, *arguments):
    """Return the fields that `tlkit train` with `arguments` asks for."""
    seen = []
    monkeypatch.setattr("tlkit.cli.train._train", lambda fields, progress: seen.append(fields))
    CliRunner().invoke(main, ["train", ".", *arguments])
    return seen[0]


# Options


def test_options_stand_for_fields_of_the_spec(monkeypatch):
    fields = asked(
        monkeypatch,
        *("--lr", "0.01", "--optimizer", "adam", "--augment", "light", "--dropout", "0.3"),
        *("--patience", "3", "--batch", "8", "--model", "resnet50", "--name", "first"),
    )
    assert fields["optimizer"] == {"learning_rate": 0.01, "name": "adam", "patience": 3}
    assert fields["head"] == {"dropout": 0.3}
    assert (fields["augment"], fields["batch_size"]) == ("light", 8)
    assert fields["out"] == os.path.join("runs", "first")
    spec = make_spec(fields)
    assert spec.backbone.name == "ResNet50"
    assert asked(monkeypatch, "-o", "x", "--learning-rate", "1")["out"] == "x"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", "3"], "no such option: --workers. Images are read by as many threads"),
        (["--imgsz", "64"], "no such option: --imgsz. Allowed: --image-size"),
        (["--label-smoothing", "0.1"], "Allowed: --set optimizer.label_smoothing=VALUE"),
        (["--epohs", "3"], "no such option: --epohs. Did you mean '--epochs'?"),
        (["--strength", "3"], "Allowed: --set head.strength=VALUE"),
        (["--zzz"], "no such option: --zzz."),
        (["--freeze", "100"], "100 of what? Allowed: layers=:100 (the first 100 layers), last=100"),
        (["--freeze", "until=blok_12"], "Did you mean 'block_12'?"),
        (["--freeze", "last=99"], "Allowed: 0 to 18. Received: '99'"),
        (["--freeze", "layers=x"], "layers=A:B takes a Python slice"),
        (["--freeze", "re=["], "is not a regular expression"),
        (["--name", "a/b"], "--name: is no name of a folder. Allowed: a name without slashes"),
        (["--name", ".."], "--name: is no name of a folder"),
        (["--name", "a", "-o", "b"], "--name, --out: both say where the run is written"),
        (["-q", "-v"], "-q, -v: choose one of them"),
        (["--set", "name=x"], "name: is in several places. Allowed: backbone.name, optimizer.name"),
        (["--set", "workers=3"], "workers: is no option: images are read by as many threads"),
        (["--dropout", "2"], "head.dropout: should be less than 1. Received: 2"),
        (["--regime", "small", "--dropout", "0.3"], "head.dropout: has no effect"),
    ],
    ids=str,
)
def test_what_to_write_instead_is_said(arguments, words):
    assert words in refused("train", ".", *arguments)


def test_a_leaf_finds_its_place_and_that_is_said(monkeypatch):
    fields = asked(
        monkeypatch, "--set", "dropout=0.5", "--set", "lr=0.1", "--set", "optimizer.lr=1"
    )
    assert fields == {"data": ".", "head": {"dropout": 0.5}, "optimizer": {"learning_rate": 1}}
    said = refused("train", "nowhere", "--set", "dropout=0.5", "--set", "lr=0.1")
    assert "note      --set dropout: taken for head.dropout\n" in said
    assert "note      --set lr: taken for optimizer.learning_rate\n" in said
    said = refused("train", "nowhere", "--lr", "0.1", "--set", "lr=0.2")
    assert "--lr 0.1: replaced by --set optimizer.learning_rate=0.2" in said


def test_every_word_has_one_place_that_there_is():
    known = set(make_spec({}).model_dump())
    for word, place in ALIASES.items():
        first, _, leaf = place.rpartition(".")
        assert place in known or place in LEAVES[leaf], word
        assert first == "" or word not in known
    assert not set(ALIASES) & set(INSTEAD)
    assert not (set(ALIASES) | set(INSTEAD)) & (known | set(LEAVES))


@pytest.mark.parametrize("name", CATALOG)
def test_names_of_backbones_in_any_case(name):
    for typed in (name.lower(), name.upper(), name.replace("Net", "-net_")):
        assert catalog_name(typed) == name
    assert make_spec({"backbone": name.lower()}).backbone.name == name


# Python


def test_python_takes_keras_words():
    from tlkit.commands.asked import in_keras_words

    seen = []

    @in_keras_words
    def train(data, **fields):
        seen.append(fields)

    train("d", validation_split=0.2, verbose=0, class_weight="balanced")
    assert seen == [{"val": 0.2, "progress": False, "balance": "weights"}]
    train("d", validation_data="v", verbose=2, class_weight=None)
    assert seen[1] == {"val": "v", "progress": True, "balance": "none"}
    with pytest.raises(SpecError, match="validation_data: is val, which is given as well"):
        train("d", validation_data="v", val=0.1)
    with pytest.raises(SpecError, match=r"class_weight: .*Allowed: 'balanced'.*\{0: 1.0\}"):
        train("d", class_weight={0: 1.0})
    for function in (tlkit.train, tlkit.plan, tlkit.compare, tlkit.lr_find, tlkit.preview):
        with pytest.raises(SpecError, match="verbose: is progress, which is given as well"):
            function("d", verbose=1, progress=True)


def test_python_finds_places_too():
    assert placed({"lr": 1, "optimizer": "adam", "epochs": 2}) == {
        "optimizer": {"name": "adam", "learning_rate": 1},
        "epochs": 2,
    }
    assert placed({"model": "VGG16", "alpha": "black"}) == {
        "backbone": {"name": "VGG16"},
        "alpha": "black",
    }
    with pytest.raises(SpecError, match="lr: is optimizer.learning_rate, which is given as well"):
        placed({"lr": 1, "optimizer": {"learning_rate": 2}})
    with pytest.raises(SpecError, match="shuffle: is no option: the training part is in a new"):
        tlkit.plan("nowhere", shuffle=True)
    assert place_of("hiden") == "hiden"


# Rules before a network is built


@pytest.mark.parametrize("name", ["MobileNetV2", "MobileNet"])
def test_no_name_of_a_layer_is_refused_too_early(name):
    from tlkit.backbones.build import build_backbone

    row = CATALOG[name]
    for layer in build_backbone(name, row.min_size, "none").layers:
        check_rule(f"until={layer.name}", row)


# Quickly


@pytest.mark.parametrize(
    "wrong",
    [["nowhere"], [".", "--freeze", "until=blok_1"], [".", "--backbone", "MobilNet"],
     [".", "--device", "tpu"], [".", "--out", "full/file/x"], [".", "--init", "nowhere"]],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_word_is_said_before_tensorflow_is_imported(wrong, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    code = (
        "import sys\nfrom tlkit.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    start = time.monotonic()
    command = [sys.executable, "-c", code, "train", *wrong]
    done = subprocess.run(command, cwd=tmp_path, env=shared_env(), capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "False False\n"
    assert time.monotonic() - start < 10  # 1 s on quiet cores: benchmarks/first_word.py


# Louder and quieter


@pytest.mark.full
def test_quiet_prints_the_folder_and_verbose_every_figure(image_folder, tiny_weights, tmp_path):
    fields = [f"backbone.{name}={value}" for name, value in TINY["backbone"].items()]
    fields[1] = f"backbone.weights={tiny_weights}"
    common = ["train", str(image_folder), "--image-size", "32", "--engine", "keras"]
    common += [word for field in fields for word in ("--set", field)]
    fitted = ["--freeze", "last=1", "--epochs", "2"]
    quiet = CliRunner().invoke(
        main, [*common, "--regime", "small", "-q", "-o", str(tmp_path / "q")]
    )
    assert quiet.stdout == f"{tmp_path / 'q'}\n"
    loud = CliRunner().invoke(main, [*common, *fitted, "-v", "-o", str(tmp_path / "v")])
    assert loud.exit_code == 0, loud.output
    said = loud.stdout
    assert "finetune  epoch 2/2  validation accuracy " in said
    assert ", validation loss " in said
    assert "epochs: as asked for" in said
