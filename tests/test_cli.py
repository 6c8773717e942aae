"""The command line: bad input ends in one clear message and exit code 2, nothing is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import CLASSES, FULL, PER_CLASS, TINY, reseal, write_images

from tlkit.backbones.catalog import CATALOG
from tlkit.cli.main import COMMANDS, main
from tlkit.errors import RunFolderError
from tlkit.spec.run import RunSpec

QUICK = ("--backbone", "MobileNet", "--image-size", "32")
QUICK += ("--set", "backbone.weights=none", "--set", "backbone.alpha=0.25")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder, with a cache of its own beside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def contents(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refusal(folder: Path, *arguments: object) -> str:
    """Call with bad input; return the message after checking how it was given."""
    before = contents(folder)
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    said = result.stderr
    if "Error: " in said:  # click's own: the form of the command, then the message
        assert said.count("Error: ") == 1
    else:
        assert said.startswith("tlkit: ")
        assert said.count("tlkit: ") == 1
    assert contents(folder) == before
    return said


def fail_with(error: BaseException) -> Callable:
    def fail(*_args, **_fields):
        raise error

    return fail


# Options that do nothing


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["backbones", "--image-size", 96], "--image-size: has no effect on the list of all"),
        (["backbones", "--cut", "conv5"], "--cut: has no effect on the list of all"),
        (["predict", "RUN", "x.png", "--json", "--top", 3], "--top: has no effect with --json"),
        (["predict", "RUN", "x.png", "--csv", "t.csv", "--top", 1], "no effect with --csv"),
        (["weights", "fetch", "FILE", "--top"], "--top: has no effect, "),
    ],
    ids=str,
)
def test_an_option_that_does_nothing_here_is_refused(here, tiny_run, arguments, words):
    file = next(iter(CATALOG.values())).weights[0].name
    said = refusal(
        here, *({"RUN": tiny_run.folder, "FILE": file}.get(word, word) for word in arguments)
    )
    assert words in said
    assert "Allowed: " in said


# Bad input: data


def test_missing_folder(here):
    said = refusal(here, "train", "flowers", *QUICK)
    assert "data flowers: does not exist. Allowed: a folder of class folders" in said


@pytest.mark.parametrize("command", ["plan", "train"])
def test_no_data_at_all(here, command):
    assert "data: is missing. Allowed: a folder of class folders" in refusal(here, command)


def test_empty_folder(here):
    (here / "empty").mkdir()
    said = refusal(here, "train", "empty", *QUICK)
    assert "needs one folder for each class" in said
    assert "Received: no images" in said


def test_one_class_only(here):
    write_images(here / "roses", labels=CLASSES[:1], count=3)
    said = refusal(here, "train", "roses", *QUICK)
    assert "needs at least two classes" in said
    assert "Received: ['disc']" in said


def test_a_class_with_one_image(here):
    write_images(here / "data", labels=CLASSES[:2], count=3)
    write_images(here / "data", labels=CLASSES[2:], count=1)
    said = refusal(here, "train", "data", *QUICK)
    assert "fewer than 2 usable images" in said
    assert "'stripes' (1). Allowed: more images" in said


def test_strict_stops_at_a_broken_file(here):
    write_images(here / "data", count=3)
    (here / "data" / "disc" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    said = refusal(here, "train", "data", "--strict", *QUICK)
    assert "1 files cannot be used (--strict): disc/broken.jpg" in said


def test_a_test_folder_with_unknown_classes(here, image_folder):
    write_images(here / "test", labels=CLASSES[:1], count=1)
    (here / "test" / "disc").rename(here / "test" / "disk")
    said = refusal(here, "train", image_folder, "--test", "test", *QUICK)
    assert "the test data has classes that the training data lacks" in said
    assert "Allowed: disc, square, stripes. Received: disk" in said


def test_a_validation_folder_that_does_not_exist(here, image_folder):
    assert "data vall: does not exist" in refusal(
        here, "train", image_folder, "--val", "vall", *QUICK
    )


def test_unknown_example(here):
    assert "Did you mean 'digits'?" in refusal(here, "train", "example:digit", *QUICK)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_scan_of_a_missing_folder(here, options):
    assert "data flowers: does not exist" in refusal(here, "data", "scan", "flowers", *options)


# Bad input: options


@pytest.mark.parametrize("command", ["train", "plan"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backbone", "MobileNetV22"], "Unknown backbone. Did you mean 'MobileNetV2'?"),
        (["--backbone", "resnet5"], "Did you mean 'ResNet50'?"),
        (["--image-size", "16"], "image_size: too small for MobileNetV2. Allowed: 32 pixels"),
        (["--val", "1.5"], "val: is a share of the data or a folder. Allowed: above 0 to below 1"),
        (["--val", "0.9", "--test", "0.5"], "val, test: leave nothing to train on"),
        (["--precision", "int8"], "precision: should be 'auto', 'float32', 'bfloat16' or 'float1"),
        (["--regime", "tiny"], "regime: should be 'auto', 'small', 'medium' or 'large'"),
        (["--device", "tpu"], "device: "),
        (["--epochs", "0"], "epochs: should be greater than 0. Received: 0"),
        (["--epochs", "many"], "Invalid value for '--epochs'"),
        (["--batch-size", "-3"], "batch_size: should be greater than 0. Received: -3"),
        (["--seed", "-1"], "seed: should be greater than or equal to 0"),
        (["--set", "epochs"], "--set: write key=value, such as head.dropout=0.5"),
        (["--set", "head.droput=0.5"], "head.droput: unknown option. Did you mean 'dropout'?"),
        (["--set", "head.hidden=[1"], "--set head.hidden: the value is not YAML"),
        (["--set", "head.dropout=1"], "head.dropout: should be less than 1. Received: 1"),
        (["--recipe", "absent.yaml"], "recipe absent.yaml: cannot be read: No such file"),
        (["--recpe", "x"], "no such option: --recpe. Did you mean '--recipe'?"),
    ],
)
def test_bad_options_are_refused_before_anything_is_read(here, command, options, words):
    assert words in refusal(here, command, "there/is/no/data", *options)


def test_unknown_freeze_block(here, image_folder):
    said = refusal(here, "train", image_folder, "--freeze", "until=blok_12", *QUICK)
    assert "freeze rule 'until=blok_12': no block or layer is called 'blok_12'" in said
    assert "Did you mean 'block_12'?" in said


def test_a_freeze_rule_that_cannot_be_read(here, image_folder):
    said = refusal(here, "plan", image_folder, "--freeze", "", *QUICK)
    assert "cannot read ''. Allowed: auto, all, none, until=BLOCK_OR_LAYER" in said


def test_a_gpu_that_is_not_there(here, image_folder):
    said = refusal(here, "train", image_folder, "--device", "gpu", *QUICK)
    assert "device: this machine has 0 GPUs" in said
    assert "Allowed: auto, cpu. Received: gpu" in said


def test_a_device_that_comes_too_late(here, image_folder, monkeypatch):
    # What TensorFlow answers once it has started on its devices.
    late = fail_with(RuntimeError("Visible devices cannot be modified after being initialized"))
    monkeypatch.setattr("tensorflow.config.set_visible_devices", late)
    said = refusal(here, "train", image_folder, "--device", "cpu", *QUICK)
    assert "device: cpu cannot be set any more, TensorFlow has already started" in said


def test_on_torch_there_is_no_choice_of_devices(here, image_folder, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "torch")
    said = refusal(here, "train", image_folder, "--device", "cpu", *QUICK)
    assert "on the torch backend there is no choice. Allowed: auto. Received: cpu" in said


def test_a_recipe_with_two_mistakes_is_told_both(here):
    (here / "recipe.yaml").write_text("regim: small\nhead: {dropout: 7}\n")
    said = refusal(here, "train", "data", "--recipe", "recipe.yaml")
    assert "2 problems" in said
    assert "regim: unknown option. Did you mean 'regime'?" in said
    assert "head.dropout: should be less than 1. Received: 7" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "recipe recipe.yaml: is not YAML"),
        ("- regime\n", "must be a mapping of options. Received: list"),
        ("", "must be a mapping of options. Received: NoneType"),
    ],
)
def test_a_recipe_that_is_none(here, text, words):
    (here / "recipe.yaml").write_text(text)
    assert words in refusal(here, "train", "data", "--recipe", "recipe.yaml")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ("absent.h5", "no such file. Allowed: imagenet, none, or the path of a weights file"),
        ("words.h5", "words.h5: do not fit or cannot be read"),
    ],
)
def test_a_weights_file_that_cannot_be_used(here, image_folder, weights, words):
    (here / "words.h5").write_text("no weights at all")
    options = ("--image-size", "32", "--set", f"backbone.weights={weights}")
    assert words in refusal(here, "train", image_folder, *options)


# Bad input: where to write


def test_out_below_a_file(here, image_folder):
    (here / "file").touch()
    said = refusal(here, "train", image_folder, "--out", "file/run", *QUICK)
    assert "--out file/run: file is a file" in said


def test_out_that_is_a_file(here, image_folder):
    (here / "file").touch()
    assert "--out file: is a file" in refusal(here, "train", image_folder, "--out", "file", *QUICK)


def test_out_that_is_not_empty(here, image_folder):
    (here / "run").mkdir()
    (here / "run" / "notes.txt").touch()
    said = refusal(here, "train", image_folder, "--out", "run", *QUICK)
    assert "--out run: is not empty. Allowed: a new or empty folder, or --resume run" in said


def test_out_with_a_name_that_the_disk_does_not_take(here, image_folder):
    said = refusal(here, "train", image_folder, "--out", "x" * 300, *QUICK)
    assert "cannot be made: File name too long" in said


# Bad input: commands on runs


@pytest.mark.parametrize("command", ["evaluate", "export", "predict"])
@pytest.mark.parametrize(
    ("run", "problem"), [("absent", "is no folder"), ("folder", "holds no spec.yaml")]
)
def test_what_is_no_run(here, command, run, problem):
    (here / "folder").mkdir()
    rest = ("photo.jpg",) if command == "predict" else ()
    allowed = "tlkit train" if command == "export" else "tlkit train or tlkit export"
    said = refusal(here, command, run, *rest)
    assert said.strip() == f"tlkit: run {run}: {problem}. Allowed: a folder made by {allowed}"


def test_resume_of_what_is_no_run(here):
    (here / "folder").mkdir()
    assert "run absent: does not exist" in refusal(here, "train", "--resume", "absent")
    said = refusal(here, "train", "--resume", "folder")
    assert "is no run folder (spec.yaml is missing)" in said


@pytest.mark.parametrize(
    "more", [["data"], ["--epochs", "3"], ["--set", "seed=1"], ["--strict"], ["--recipe", "x.yaml"]]
)
def test_resume_takes_no_other_option(here, more):
    assert "--resume: the run knows its other options" in refusal(
        here, "train", "--resume", "run", *more
    )


@pytest.mark.parametrize("text", ["a: [", "", "regim: small\n"])
@pytest.mark.parametrize("command", [("train", "--resume"), ("evaluate",), ("export",)])
def test_a_damaged_spec_in_a_run_folder(here, command, text):
    (here / "run").mkdir()
    (here / "run" / "spec.yaml").write_text(text)
    assert "spec.yaml" in refusal(here, *command, "run")


def test_json_and_csv_exclude_each_other(here):
    said = refusal(here, "predict", "run", "a.jpg", "--json", "--csv", "out.csv")
    assert "--json, --csv: choose one of them" in said


@pytest.mark.parametrize("command", [("predict", "RUN", "a.jpg"), ("evaluate", "RUN")])
def test_csv_into_a_folder_that_does_not_exist(here, command, tiny_run):
    command = [tiny_run.folder if word == "RUN" else word for word in command]
    said = refusal(here, *command, "--csv", "absent/out.csv")
    assert "--csv absent/out.csv: its folder does not exist" in said
    assert "--csv .: is a folder. Allowed: a file" in refusal(here, *command, "--csv", ".")


def test_evaluate_out_is_a_new_or_empty_folder(here, tiny_run):
    (here / "full").mkdir()
    (here / "full" / "notes.txt").touch()
    (here / "file").touch()
    said = refusal(here, "evaluate", tiny_run.folder, "--out", "full")
    assert said == "tlkit: --out full: is not empty. Allowed: a new or empty folder\n"
    said = refusal(here, "evaluate", tiny_run.folder, "--out", "file/x")
    assert "--out file/x: file is a file. Allowed: a new or empty folder" in said
    with pytest.raises(RunFolderError, match="--out full: is not empty"):
        tiny_run.evaluate(out="full")


@pytest.mark.parametrize(
    "command",
    [
        *([name, "nowhere"] for name in ("train", "plan", "lr-find")),
        ["compare", "nowhere", "--backbones", "MobileNet"],
        ["data", "scan", "nowhere"],
        ["data", "preview", "nowhere"],
        ["data", "prepare", "nowhere", "prepared"],
        ["train", "digits.csv"],
        ["train", ".", "--val", "nowhere"],
        ["plan", ".", "--test", "file/below"],
    ],
    ids=" ".join,
)
def test_data_that_are_not_there_are_missed_before_tensorflow_is_imported(
    here, monkeypatch, command
):
    (here / "file").touch()
    for module in ("train", "lrfind", "compare", "scan", "preview", "prepare"):
        late = fail_with(AssertionError("TensorFlow is imported"))
        monkeypatch.setattr(f"tlkit.cli.{module}.import_tensorflow", late)
    assert "does not exist. Allowed: a folder of class folders" in refusal(here, *command)


def test_what_is_replaced_on_the_command_line_is_said(here):
    several = ("--epochs", 3, "--set", "epochs=4", "--set", "seed=1", "--set", "epochs=5")
    said = call("plan", "nowhere", *several).stderr
    assert "note      --epochs 3: replaced by --set epochs=4\n" in said
    assert "note      --set epochs=4: replaced by --set epochs=5\n" in said
    assert said.count("note") == 2
    assert "note" not in call("plan", "nowhere", "--seed", 3, "--set", "seed=3").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "scna", "x"], "scan"),
        (["cache", "lst"], "list"),
        (["weights", "ftech"], "fetch"),
        (["train", "a", "b"], "Got unexpected extra argument (b)"),
        (["evaluate", "run", "a", "b"], "Got unexpected extra argument (b)"),
        (["lr-find"], "data: is missing"),
        (["compare", "--backbones", "MobileNet"], "data: is missing"),
        (["data", "preview"], "data: is missing"),
        (["data", "scan"], "Missing argument 'DATA'"),
    ],
)
def test_slips_of_the_command_line(here, arguments, words):
    assert words in refusal(here, *arguments)


def test_out_is_checked_before_tensorflow_is_imported(here, image_folder, monkeypatch):
    (here / "file").touch()
    late = fail_with(AssertionError("TensorFlow is imported"))
    monkeypatch.setattr("tlkit.cli.train.import_tensorflow", late)
    assert "--out file: is a file" in refusal(here, "train", image_folder, "--out", "file")


def test_a_freeze_rule_is_checked_before_the_data_are_read(here, image_folder, monkeypatch):
    monkeypatch.setattr("tlkit.commands.train.load_dataset", fail_with(AssertionError("read")))
    for command in ("train", "plan"):
        said = refusal(here, command, image_folder, "--freeze", "until=blok_12", *QUICK)
        assert "Did you mean 'block_12'?" in said


@pytest.mark.parametrize(
    "rule", ["last=" + "9" * 5000, "layers=:" + "9" * 5000, "re=a{99999999999}"]
)
def test_a_freeze_rule_of_too_many_digits(here, image_folder, rule):
    assert "freeze rule" in refusal(here, "plan", image_folder, "--freeze", rule, *QUICK)


@pytest.mark.parametrize("arguments", [["predict", "run"], ["predict"], ["evaluate"], ["export"]])
def test_missing_arguments(here, arguments):
    assert "Missing argument" in refusal(here, *arguments)


def test_top_must_be_positive(here):
    assert "--top" in refusal(here, "predict", "run", "a.jpg", "--top", "0")


def test_predict_on_a_folder_without_images(here, tiny_run):
    (here / "empty").mkdir()
    assert "empty: holds no images" in refusal(here, "predict", tiny_run.folder, "empty")


def test_unknown_export_format(here, tiny_run):
    said = refusal(here, "export", tiny_run.folder, "--format", "onnnx")
    assert "format: unknown. Did you mean 'onnx'? Allowed: savedmodel, onnx" in said
    assert "Received: 'onnnx'" in said


def test_export_to_where_something_is(here, tiny_run):
    (here / "full").mkdir()
    (here / "full" / "notes.txt").touch()
    (here / "file").touch()
    said = refusal(here, "export", tiny_run.folder, "--out", "full")
    assert "--out full: is not empty. Allowed: a new or empty folder" in said
    said = refusal(here, "export", tiny_run.folder, "--out", "file/served")
    assert "--out file/served: file is a file" in said


def test_evaluate_on_classes_that_the_run_does_not_know(here, tiny_run):
    write_images(here / "data", labels=CLASSES[:1], count=1)
    (here / "data" / "disc").rename(here / "data" / "circle")
    said = refusal(here, "evaluate", tiny_run.folder, "data")
    assert "the evaluation data has classes that the training data lacks" in said
    assert "Received: circle" in said


def test_evaluate_where_no_image_is_usable(here, tiny_run):
    (here / "data" / "disc").mkdir(parents=True)
    (here / "data" / "disc" / "empty.jpg").touch()
    said = refusal(here, "evaluate", tiny_run.folder, "data")
    assert "no usable images. Received: 1 files" in said


def copy_of(run, folder: Path, without: str) -> Path:
    shutil.copytree(run.folder, folder)
    (folder / without).unlink()
    return folder


def test_runs_that_lack_a_file_say_which(here, tiny_run):
    run = copy_of(tiny_run, here / "run", "labels.json")
    write_images(here / "data", count=1)
    assert "labels.json is missing or unreadable" in refusal(here, "evaluate", run, "data")


def test_a_run_without_model_says_how_to_go_on(here, tiny_run):
    run = copy_of(tiny_run, here / "run", "model.keras")
    shutil.rmtree(run / "checkpoints")
    said = refusal(here, "evaluate", run)
    assert f"holds no model yet. Go on with: tlkit train --resume {run}" in said


def test_evaluate_when_the_test_images_have_gone(here, image_folder, tiny_run):
    data = shutil.copytree(image_folder, here / "data")
    run = shutil.copytree(tiny_run.folder, here / "run")
    spec = (run / "spec.yaml").read_text().replace(str(image_folder), str(data))
    (run / "spec.yaml").write_text(spec)
    reseal(run)
    gone = json.loads((run / "scan.json").read_text())["splits"]["test"][0]
    (data / gone).unlink()
    said = refusal(here, "evaluate", run)
    assert f"1 of its 6 test images are no longer in {data}" in said


def test_evaluate_without_test_part_asks_for_data(here, tiny_run):
    run = shutil.copytree(tiny_run.folder, here / "run")
    kept = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**kept, "test": []}))
    reseal(run)
    assert "has no test part; say what to evaluate on" in refusal(here, "evaluate", run)


def test_a_run_on_arrays_cannot_find_its_data_again(here, image_folder, tiny_run):
    run = shutil.copytree(tiny_run.folder, here / "run")
    spec = (run / "spec.yaml").read_text().replace(str(image_folder), "<arrays>")
    (run / "spec.yaml").write_text(spec)
    reseal(run)
    assert "was trained on arrays; say what to evaluate on" in refusal(here, "evaluate", run)
    (run / "metrics.json").unlink()
    assert "was trained on arrays, which are gone" in refusal(here, "train", "--resume", run)


def test_predict_with_a_damaged_export(here):
    (here / "served").mkdir()
    (here / "served" / "saved_model.pb").write_bytes(b"nothing of the kind")
    said = refusal(here, "predict", "served", "a.jpg")
    assert "export served: is not a SavedModel written by tlkit export" in said


# Bad input: the command itself


def test_unknown_command(here):
    said = refusal(here, "trian", "data")
    assert "no such command: 'trian'. Did you mean 'train'? Allowed: quickstart, train" in said


def test_unknown_backbone_in_the_catalog(here):
    assert "Did you mean 'Xception'?" in refusal(here, "backbones", "Xeption")


def test_unknown_quickstart_data(here):
    assert "'elpv', 'digits'" in refusal(here, "quickstart", "--data", "cats")


# What else can end a command


def test_an_interruption_exits_with_130(here, image_folder, monkeypatch):
    monkeypatch.setattr("tlkit.commands.train.plan", fail_with(KeyboardInterrupt()))
    result = call("plan", image_folder)
    assert (result.exit_code, result.stderr) == (130, "tlkit: interrupted; nothing was written\n")


def test_a_bug_is_no_user_error(here, image_folder, monkeypatch):
    monkeypatch.setattr("tlkit.commands.train.plan", fail_with(ZeroDivisionError("oh")))
    result = call("plan", image_folder)
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def start(folder: Path, *arguments: object, **env: str) -> subprocess.CompletedProcess:
    """Run the command as a person does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tlkit", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.full
def test_weights_that_cannot_be_had(here, image_folder):
    nowhere = "http://127.0.0.1:9"  # the discard port: refused at once, no download is tried
    home = here / "keras_home"
    done = start(
        *(here, "train", image_folder, "--backbone", "MobileNetV2", "--out", "run"),
        **{"KERAS_HOME": str(home), "https_proxy": nowhere, "http_proxy": nowhere},
    )
    assert done.returncode == 2, done.stderr
    file = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    message = next(line for line in done.stderr.splitlines() if line.startswith("tlkit: "))
    assert f"MobileNetV2 weights: {file} is not on disk and could not be downloaded" in message
    assert f"{file} and put it into {home / 'models'}, or choose" in message
    assert "Traceback" not in done.stderr
    assert not (here / "run").exists()
    assert not list(home.rglob("*.h5"))


# What works


ALL_COMMANDS = [
    *([name] for name in COMMANDS),
    ["data", "scan"],
    ["cache", "list"],
    ["cache", "clear"],
    [],
]


@pytest.mark.parametrize("command", ALL_COMMANDS, ids=" ".join)
@pytest.mark.filterwarnings("error:The parameter .* is used more than once")
def test_help_shows_an_example(here, command):
    for flag in ("--help", "-h"):
        result = call(*command, flag)
        assert result.exit_code == 0
        text = " ".join(result.stdout.split())
        example = text.partition("Example")[2].lstrip("s: ")
        assert example.startswith(" ".join(["tlkit", *command]))


def test_help_of_the_command_lists_all_commands(here):
    text = call("--help").stdout
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_help_of_train_names_every_option_with_its_default(here):
    text = " ".join(call("train", "--help").stdout.split())
    for flag in (
        *("--backbone", "--out", "--regime", "--freeze", "--image-size", "--batch-size"),
        *("--epochs", "--val", "--test", "--seed", "--device", "--precision", "--recipe", "--set"),
        *("--deterministic", "--strict", "--resume", "--json"),
    ):
        assert f" {flag} " in text
    assert "[default: MobileNetV2]" in text
    assert "auto|small|medium|large" in text


def test_schema_is_the_specs(here):
    result = call("schema")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == RunSpec.model_json_schema()


def test_backbones_lists_all_with_whole_names(here):
    result = call("backbones")
    assert result.exit_code == 0
    for row in CATALOG.values():
        line = next(line for line in result.stdout.splitlines() if f" {row.name} " in line)
        assert f"{row.parameters:,}" in line
        assert f"{row.top1:.1f}%" in line


def test_backbones_of_one_lists_blocks_and_layers(here):
    result = call("backbones", "MobileNetV2")
    assert result.exit_code == 0
    for name in ("stem", "block_16", "block_16_project_BN", "top", "out_relu"):
        assert f" {name} " in result.stdout
    assert contents(here) == {}


@pytest.fixture
def messy(here) -> Path:
    folder = write_images(here / "messy", count=3)
    (folder / "disc" / "empty.jpg").touch()
    shutil.copy(folder / "disc" / "disc00.png", folder / "disc" / "again.png")
    return folder


def test_data_scan_json(here, messy):
    result = call("data", "scan", "messy", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert {key: summary[key] for key in ("source", "classes", "left_out", "duplicates")} == {
        "source": "messy",
        "classes": {"train": {"disc": 5, "square": 3, "stripes": 3}},
        "left_out": [{"id": "disc/empty.jpg", "reason": "empty file"}],
        "duplicates": [["disc/again.png", "disc/disc00.png"]],
    }


def test_data_scan_as_text(here, messy):
    result = call("data", "scan", "messy")
    assert result.exit_code == 0
    assert "left out  empty file: disc/empty.jpg\n" in result.stdout
    assert "twice     disc/again.png, disc/disc00.png\n" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if " disc " in line]
    assert " 5 " in line


def test_plan_json(here, image_folder):
    result = call(
        "plan", image_folder, "--json", "--freeze", "until=block_5", "--epochs", 2, *QUICK
    )
    assert result.exit_code == 0
    plan = json.loads(result.stdout)
    assert list(plan) == ["regime", "reason", "examples", "classes", "phases", "estimate"]
    assert (plan["regime"], plan["examples"], plan["classes"]) == ("large", 24, 3)
    (phase,) = plan["phases"]
    assert list(phase) == [
        *("name", "method", "freeze", "cut", "batchnorm", "augment", "keeps_features", "views"),
        *("epochs", "optimizer", "learning_rate", "schedule", "reasons", "blocks"),
    ]
    assert (phase["freeze"], phase["cut"], phase["epochs"]) == ("until=block_5", "block_5", 2)
    assert set(phase["blocks"][0]) == {"block", "layers", "parameters", "state"}
    assert contents(here) == {}


def test_plan_as_text(here, image_folder):
    result = call("plan", image_folder, "--regime", "small", *QUICK)
    assert result.exit_code == 0
    assert "24 train, 6 validation, 6 test, 3 classes" in result.stdout
    assert "regime    small (as asked for" in result.stdout
    assert "head      the head on frozen features, solved;" in result.stdout
    assert len([line for line in result.stdout.splitlines() if "frozen " in line]) >= 14
    assert contents(here) == {}


def test_options_win_over_the_recipe_and_settings_over_both(here, image_folder):
    recipe = "backbone: {name: MobileNet, weights: none}\nregime: medium\nepochs: 7\nval: 0.5\n"
    (here / "recipe.yaml").write_text(recipe)
    options = ("--recipe", "recipe.yaml", "--regime", "large", "--image-size", 32)
    result = call("plan", image_folder, *options, "--set", "val=0.25", "--json")
    plan = json.loads(result.stdout)
    assert plan["regime"] == "large"
    assert plan["phases"][0]["epochs"] == 7
    assert plan["examples"] == PER_CLASS * 3 - 3 * 3 - 3 * 2


def test_standard_output_carries_the_json_alone(here, image_folder):
    done = start(here, "plan", image_folder, "--json", *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["classes"] == 3
    assert "24 train" in done.stderr


def test_predict_answers_in_the_order_given_and_names_what_is_broken(here, image_folder, tiny_run):
    (here / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    files = [image_folder / "stripes" / "stripes00.png", "broken.jpg", "absent.jpg"]
    files.append(image_folder / "disc" / "disc00.png")
    result = call("predict", tiny_run.folder, *files, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [row["path"] for row in rows] == [str(file) for file in files]
    assert [row["label"] for row in rows] == ["stripes", None, None, "disc"]
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    table = call("predict", tiny_run.folder, *files)
    assert "2 of 4 files could not be used" in table.stdout


def test_evaluate_writes_what_it_measured(here, tiny_run):
    done = call("evaluate", tiny_run.folder, "--out", "measured", "--csv", "rows.csv")
    assert done.exit_code == 0, done.output
    assert "written   rows.csv\n" in done.stdout
    assert "written   measured: confusion.png, metrics.json, predictions.csv\n" in done.stdout
    rows = (here / "rows.csv").read_text()
    assert rows == (here / "measured" / "predictions.csv").read_text()
    # From kept features the run's own probabilities may differ in the last digit.
    kept = (tiny_run.folder / "predictions.csv").read_text()
    names = [[line.split(",")[:3] for line in text.splitlines()] for text in (rows, kept)]
    assert names[0] == names[1]
    one, other = (
        [[float(x) for x in line.split(",")[3:]] for line in text.splitlines()[1:]]
        for text in (rows, kept)
    )
    for a, b in zip(one, other, strict=True):
        assert a == pytest.approx(b, abs=2e-6)  # written with six digits
    metrics = json.loads((here / "measured" / "metrics.json").read_text())
    assert metrics["accuracy"] == tiny_run.metrics["test"]["accuracy"]
    assert contents(here).keys() == {
        *("measured", "measured/confusion.png", "measured/metrics.json"),
        *("measured/predictions.csv", "rows.csv"),
    }


def test_a_closed_pipe_ends_a_command_quietly(here, messy, tiny_run):
    commands = ["schema", "data scan messy --json"]
    if FULL:
        commands += ["data scan messy", f"predict {tiny_run.folder} messy --json"]
    for command in commands:
        line = f"{sys.executable} -m tlkit {command} | true; exit ${{PIPESTATUS[0]}}"
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        done = subprocess.run(
            ["bash", "-c", line], cwd=here, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 141, done.stderr
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize(
    "command",
    ["schema", "backbones", "--help", "train --help", "--version", "cache list", "weights list"],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_standard_output_is_told_in_one_sentence(here, command, unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tlkit", *command.split()],
            **{"env": {**os.environ, "PYTHONUNBUFFERED": unbuffered}, "stdout": full},
            **{"stderr": subprocess.PIPE, "text": True, "check": False},
        )
    assert done.returncode == 2, done.stderr
    said = "cannot be written: No space left on device"
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr == f"tlkit: standard output: {said}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
@pytest.mark.parametrize(
    ("command", "unbuffered"),
    [
        pytest.param("data scan messy --json", "", marks=pytest.mark.full),
        ("train messy --out run", ""),
        pytest.param("train messy --out run", "1", marks=pytest.mark.full),
    ],
)
def test_a_full_disk_under_standard_output_is_not_taken_for_that_of_a_run(
    here, messy, command, unbuffered
):
    words = [*command.split(), *(QUICK if command.startswith("train") else ())]
    line = f"{sys.executable} -m tlkit {' '.join(words)} > /dev/full"
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["bash", "-c", line], cwd=here, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == "tlkit: standard output: cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


def test_paths_are_not_folded_where_nobody_looks_on(here, image_folder, tiny_run, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    deep = here.joinpath(*["a-long-name-of-a-folder"] * 6)
    deep.mkdir(parents=True)
    image = shutil.copy(image_folder / "disc" / "disc00.png", deep / "disc.png")
    result = call("predict", tiny_run.folder, image)
    (line,) = [line for line in result.stdout.splitlines() if "disc.png" in line]
    assert str(image) in line
    assert " disc " in line


def test_a_run_made_under_another_locale_is_found_again(here, tmp_path):
    data = write_images(tmp_path / "bilder", labels=("disc", "square"), count=6)
    (data / "disc").rename(data / "grün")
    (data / "square").rename(data / "日本")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    arguments = ("train", data, "--regime", "small", "--out", "läufe", *QUICK)
    done = subprocess.run(
        [sys.executable, "-m", "tlkit", *map(str, arguments)],
        **{"cwd": here, "env": {**os.environ, **locale}, "capture_output": True, "check": False},
    )
    assert done.returncode == 0, done.stderr
    run = here / "läufe"
    assert json.loads((run / "labels.json").read_text(encoding="utf-8")) == ["grün", "日本"]
    result = call("evaluate", run, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["examples"] == 2


def test_evaluate_json_and_text_say_the_same(here, tiny_run):
    metrics = json.loads(call("evaluate", tiny_run.folder, "--json").stdout)
    assert metrics["accuracy"] == tiny_run.metrics["test"]["accuracy"]
    text = call("evaluate", tiny_run.folder).stdout
    assert f"{metrics['accuracy']:.3f} of {metrics['examples']} right" in text


@pytest.fixture(scope="module")
def trained(image_folder, tmp_path_factory) -> tuple[Path, Result]:
    """A working folder in which `tlkit train --out run` was called, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TLKIT_CACHE", str(folder / "cache"))
        return folder, call("train", image_folder, "--regime", "small", "--out", "run", *QUICK)


def test_train_prints_what_a_person_needs(trained):
    _, done = trained
    assert (done.exit_code, done.stderr) == (0, "")
    for line in ("data      ", "plan      small", "test      ", "run       run", "next      tlkit"):
        assert f"\n{line}" in f"\n{done.stdout}"


def test_the_cache_is_listed_and_cleared(here, trained):
    assert "0.0 MiB" in call("cache", "list").stdout
    shutil.copytree(trained[0] / "cache", here.parent / "cache", dirs_exist_ok=True)
    listed = call("cache", "list").stdout
    assert " 36 " in listed  # 24 training, 6 validation and 6 test images
    assert str(here.parent / "cache" / "features") in listed
    assert "MiB removed" in call("cache", "clear").stdout
    assert " 36 " not in call("cache", "list").stdout
    assert not [path for path in (here.parent / "cache").rglob("*") if path.is_file()]


def test_resuming_a_finished_run_says_so(here, tiny_run):
    before = contents(tiny_run.folder)
    done = call("train", "--resume", tiny_run.folder)
    assert done.exit_code == 0
    assert "is finished; nothing to do" in done.stdout
    assert contents(tiny_run.folder) == before


def test_train_json_is_the_runs_metrics(here, tiny_run):
    done = call("train", "--resume", tiny_run.folder, "--json")
    assert json.loads(done.stdout) == tiny_run.metrics
    assert "is finished" in done.stderr


def test_quick_is_the_tiny_spec():
    assert TINY["backbone"] == {"name": "MobileNet", "weights": "none", "alpha": 0.25}
    assert TINY["image_size"] == 32
