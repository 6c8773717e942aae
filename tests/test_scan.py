"""The scan: what cannot be used is named and left out, what is there twice is found."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from conftest import CLASSES, PER_CLASS, write_pictures

from tlkit.data.scan import scan, scan_summary
from tlkit.data.sources import Example, open_source
from tlkit.errors import DataError
from tlkit.progress import Progress

QUIET = Progress(quiet=True)


@pytest.fixture
def messy(tmp_path):
    """Five good pictures a class; three files that are none, and one picture twice."""
    folder = write_pictures(tmp_path / "messy", count=5)
    (folder / "disc" / "empty.jpg").touch()
    (folder / "disc" / "words.png").write_text("no picture at all")
    whole = (folder / "square" / "square00.png").read_bytes()
    (folder / "square" / "cut.png").write_bytes(whole[: len(whole) // 2])
    shutil.copy(folder / "stripes" / "stripes01.png", folder / "stripes" / "again.png")
    return folder


def scanned(folder, **options):
    return scan(open_source(folder).parts["train"], QUIET, **options)


def test_good_pictures_all_have_a_digest(pictures):
    found = scanned(pictures)
    assert len(set(found.digests.values())) == PER_CLASS * len(CLASSES)
    assert found.left_out == {}
    assert found.duplicates() == []


def test_what_cannot_be_used_is_left_out_with_its_reason(messy):
    found = scanned(messy)
    assert found.left_out["disc/empty.jpg"] == "empty file"
    assert "not an image" in found.left_out["disc/words.png"]
    assert "truncated or corrupt PNG" in found.left_out["square/cut.png"]
    assert len(found.left_out) == 3
    assert not set(found.left_out) & set(found.digests)


def test_strict_stops_and_names_them(messy):
    with pytest.raises(DataError, match=r"3 files cannot be used \(--strict\)") as caught:
        scanned(messy, strict=True)
    assert "disc/empty.jpg: empty file" in str(caught.value)


def test_strict_names_the_first_five(tmp_path):
    folder = write_pictures(tmp_path / "bad", count=2)
    for i in range(7):
        (folder / "disc" / f"bad{i}.jpg").touch()
    with pytest.raises(DataError) as caught:
        scanned(folder, strict=True)
    assert str(caught.value).count("empty file") == 5
    assert str(caught.value).endswith("; and 2 more")


def test_strict_passes_where_all_is_well(pictures):
    assert scanned(pictures, strict=True).left_out == {}


def test_duplicates_are_found_by_content(messy):
    assert scanned(messy).duplicates() == [["stripes/again.png", "stripes/stripes01.png"]]


def test_a_file_that_is_gone_is_left_out(tmp_path):
    gone = Example("a/gone.jpg", "a", tmp_path / "gone.jpg")
    assert scan([gone], QUIET).left_out == {
        "a/gone.jpg": "cannot be read: No such file or directory"
    }


def test_arrays_are_compared_by_shape_and_content():
    flat = np.zeros((2, 8, 3), np.uint8)
    arrays = [flat, flat.copy(), flat.reshape(4, 4, 3), flat + 1]
    found = scan([Example(f"array/{i}", "x", pixels=a) for i, a in enumerate(arrays)], QUIET)
    assert found.duplicates() == [["array/0", "array/1"]]
    assert len(set(found.digests.values())) == 3


def test_the_summary_says_all_of_it(messy):
    summary = scan_summary(str(messy), QUIET)
    assert summary["source"] == str(messy)
    assert summary["classes"] == {"train": {"disc": 7, "square": 6, "stripes": 6}}
    assert [item["id"] for item in summary["left_out"]] == [
        "disc/empty.jpg",
        "disc/words.png",
        "square/cut.png",
    ]
    assert summary["duplicates"] == [["stripes/again.png", "stripes/stripes01.png"]]
