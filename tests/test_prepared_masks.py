"""Masks and boxes in a prepared data set: written, found again, and read to the same numbers."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from test_localisation import turned_copy, write_boxes
from test_outlines import as_coco
from test_segmentation import draw

from tlkit.cli.main import main
from tlkit.data.feed.dataset import load_dataset
from tlkit.data.mask_targets import MaskTargets
from tlkit.data.readers.find_task import find_task, with_task
from tlkit.data.readers.open import open_listing
from tlkit.errors import DataError
from tlkit.progress import Progress
from tlkit.spec.coding import Coding
from tlkit.spec.read import make_spec
from tlkit.tasks.registry import task_of

SIZE = 32


def masks(folder):
    draw(folder, 12)
    with Image.open(folder / "masks" / "03.png") as image:  # of another size than its image
        image.resize((96, 80), Image.Resampling.NEAREST).save(folder / "masks" / "03.png")
    return folder


def outlines(folder):
    as_coco(folder)
    return folder


def boxes(folder):
    table = write_boxes(folder, 12)
    with Image.open(folder / "images" / "05.png") as image:
        (folder / "images" / "05.png").write_bytes(turned_copy(image.copy(), 6))
    return table


FORMS = {"masks": masks, "outlines": outlines, "boxes": boxes}


@pytest.fixture(scope="module", params=FORMS)
def pair(request, tmp_path_factory):
    """A data set and what `tlkit data prepare` made of it."""
    folder = tmp_path_factory.mktemp(request.param)
    data, out = FORMS[request.param](folder / "data"), folder / "prepared"
    result = CliRunner().invoke(main, ["data", "prepare", str(data), str(out)])
    assert result.exit_code == 0, result.output
    return data, out


def fed(data):
    """Return outputs, ids, images and targets of each part as training gets them."""
    spec = make_spec(with_task({"data": str(data), "image_size": SIZE, "batch_size": 4}))
    prepared = load_dataset(spec, {}, Progress(quiet=True))
    task = task_of(prepared.spec, prepared.source.outputs)
    found = {}
    for part in ("train", "val", "test"):
        own = prepared.examples(part, task.encode)
        rows = list(own.batches(range(len(own))))
        ids = [e.id for e in getattr(prepared.split, part)]
        found[part] = ids, *(np.concatenate(column) for column in zip(*rows, strict=True))
    return prepared, found


def test_what_was_prepared_is_fed_to_the_same_numbers(pair):
    data, out = pair
    assert find_task(out) == find_task(data)
    before, own = fed(data)
    after, again = fed(out)
    assert after.spec.task == before.spec.task
    assert after.source.outputs == before.source.outputs
    assert after.spec.mask_values == before.spec.mask_values
    for part, (ids, images, targets) in own.items():
        assert [x.removeprefix(f"{part}/") for x in again[part][0]] == [
            x.removeprefix(f"{part}/") for x in ids
        ]
        np.testing.assert_array_equal(again[part][1], images)
        np.testing.assert_allclose(again[part][2], targets, atol=1e-6)


def test_other_programs_read_masks_and_boxes(pair):
    import tensorflow_datasets as tfds

    _, out = pair
    builder = tfds.builder_from_directory(out)
    row = next(iter(tfds.as_numpy(builder.as_dataset(split="train"))))
    if find_task(out) == "segmentation":
        with Image.open(io.BytesIO(row["label"])) as mask:
            assert mask.format == "PNG"
            assert row["image"].shape[0] / row["image"].shape[1] == pytest.approx(
                mask.height / mask.width
            )
    else:
        assert row["label"]["bbox"].shape == (1, 4)
        assert ((row["label"]["bbox"] >= 0) & (row["label"]["bbox"] <= 1)).all()


def test_a_prepared_set_is_scanned_and_drawn(pair, tmp_path):
    _, out = pair
    words = ["data", "scan", str(out), "--sheet", str(tmp_path / "sheet.png"), "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"]["usable"] in (12, 16)


def prepared_masks(folder):
    draw(folder / "data", 6)
    result = CliRunner().invoke(main, ["data", "prepare", str(folder / "data"),
                                       str(folder / "out")])  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder / "out"


def test_masks_of_other_values_than_a_run_knows_are_refused(tmp_path):
    out = prepared_masks(tmp_path)
    with pytest.raises(DataError, match="its masks hold other values. Allowed: 0=a, 7=b"):
        open_listing(str(out), MaskTargets(coding=Coding(("0=a", "7=b"))))
    about = json.loads((out / "tlkit.json").read_text())
    for values in (["x"], 3):
        (out / "tlkit.json").write_text(json.dumps({**about, "mask_values": values}))
        with pytest.raises(DataError, match="mask_values: .*prepare it anew"):
            open_listing(str(out), MaskTargets())
    shutil.rmtree(out)
