"""The scan: what cannot be used is named and left out, what is there twice is found, and the
summary, table and contact sheet of it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import CLASSES, PER_CLASS, TINY, draw_image, write_images
from PIL import Image, ImageEnhance

import tlkit
from tlkit.cli.main import main
from tlkit.data.example import Example
from tlkit.data.feed.dataset import load_dataset
from tlkit.data.pictures.decode import decode
from tlkit.data.readers.open import open_source
from tlkit.data.scan import summary as summary_module
from tlkit.data.scan.near_duplicates import NEAR, NO_HASH, near_pairs, perceptual_hash
from tlkit.data.scan.scan import scan
from tlkit.data.scan.summary import scan_source
from tlkit.errors import DataError
from tlkit.progress import Progress
from tlkit.spec.read import make_spec

QUIET = Progress(quiet=True)


@pytest.fixture
def messy(tmp_path):
    """Five good images a class; three files that are none, and one image twice."""
    folder = write_images(tmp_path / "messy", count=5)
    (folder / "disc" / "empty.jpg").touch()
    (folder / "disc" / "words.png").write_text("no image at all")
    whole = (folder / "square" / "square00.png").read_bytes()
    (folder / "square" / "cut.png").write_bytes(whole[: len(whole) // 2])
    shutil.copy(folder / "stripes" / "stripes01.png", folder / "stripes" / "again.png")
    return folder


def scanned(folder, **options):
    return scan(open_source(folder).parts["train"], QUIET, **options)


def test_good_images_all_have_a_digest(image_folder):
    found = scanned(image_folder)
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
    folder = write_images(tmp_path / "bad", count=2)
    for i in range(7):
        (folder / "disc" / f"bad{i}.jpg").touch()
    with pytest.raises(DataError) as caught:
        scanned(folder, strict=True)
    assert str(caught.value).count("empty file") == 5
    assert str(caught.value).endswith("; and 2 more")


def test_strict_passes_where_all_is_well(image_folder):
    assert scanned(image_folder, strict=True).left_out == {}


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
    summary = scan_source(str(messy), QUIET)[0]
    assert summary["source"] == str(messy)
    assert summary["classes"] == {"train": {"disc": 7, "square": 6, "stripes": 6}}
    assert [item["id"] for item in summary["left_out"]] == [
        "disc/empty.jpg",
        "disc/words.png",
        "square/cut.png",
    ]
    assert summary["duplicates"] == [["stripes/again.png", "stripes/stripes01.png"]]


# The summary


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """UserModel parts, and of everything that a scan remarks on at least one."""
    folder = tmp_path_factory.mktemp("odd") / "odd"
    write_images(folder / "train", count=5)
    write_images(folder / "test", count=1, seed=9)
    train = folder / "train"
    one = train / "disc" / "disc00.png"
    shutil.copy(one, folder / "test" / "disc" / "again.png")  # across parts
    shutil.copy(train / "disc" / "disc01.png", train / "square" / "disc01.png")  # two labels
    shutil.copy(train / "disc" / "disc02.png", train / "disc" / "named.jpg")  # misnamed, twice
    (train / "disc" / "words.jpg").write_text("words")
    (train / "disc" / "empty.jpg").touch()
    random = np.random.default_rng(7)
    for i in range(20):
        draw_image("stripes", random).save(train / "stripes" / f"more{i:02d}.bmp")
    image = draw_image("square", random)
    image.save(folder / "test" / "square" / "alike.png")
    ImageEnhance.Brightness(image).enhance(1.1).save(train / "square" / "alike.jpg", quality=80)
    frames = [draw_image("disc", random).convert("P") for _ in range(3)]
    frames[0].save(train / "disc" / "moving.gif", save_all=True, append_images=frames[1:])
    for mode in ("L", "CMYK"):
        draw_image("disc", random).convert(mode).save(train / "disc" / f"{mode}.jpg")
    for mode in ("P", "RGBA"):
        draw_image("disc", random).convert(mode).save(train / "disc" / f"{mode}.png")
    deep = random.integers(0, 2**16, (9, 8), dtype=np.uint16)
    Image.fromarray(deep).save(train / "disc" / "deep.png")
    return folder


@pytest.fixture(scope="module")
def odd_summary(odd):
    return scan_source(str(odd), QUIET, size=48)[0]


def test_counts_sizes_formats_and_modes(odd_summary):
    assert odd_summary["classes"]["train"] == {"disc": 14, "square": 7, "stripes": 25}
    assert odd_summary["files"]["given"] == 51
    assert odd_summary["files"]["usable"] == 49
    assert odd_summary["per_class"]["stripes"]["usable"] == 26
    assert odd_summary["per_class"]["stripes"]["median"] == [40, 48]
    sizes = {"smallest": [8, 9], "median": [40, 48], "largest": [40, 48]}
    assert odd_summary["sizes"] == sizes
    assert odd_summary["formats"] == {"PNG": 25, "BMP": 20, "JPEG": 3, "GIF": 1}
    modes = {"RGB": 43, "grey": 1, "CMYK": 1, "palette": 2, "alpha": 1, "16-bit": 1}
    assert odd_summary["modes"] == modes


def test_duplicates_across_parts_and_with_two_labels(odd_summary):
    across = ["test/disc/again.png", "train/disc/disc00.png"]
    labels = ["train/disc/disc01.png", "train/square/disc01.png"]
    inside = ["train/disc/disc02.png", "train/disc/named.jpg"]
    assert sorted(odd_summary["duplicates"]) == [across, labels, inside]
    assert odd_summary["across_parts"] == [across]
    assert odd_summary["two_labels"] == [labels]


def test_files_that_are_not_what_they_seem(odd_summary):
    named = {"id": "train/disc/named.jpg", "named": "JPEG", "is": "PNG"}
    assert odd_summary["misnamed"] == [named]
    assert odd_summary["several"] == ["train/disc/moving.gif"]
    assert {item["id"]: item["reason"] for item in odd_summary["left_out"]} == {
        "train/disc/empty.jpg": "empty file",
        "train/disc/words.jpg": "not an image: starts with b'words'",
    }


def test_images_smaller_than_the_input(odd_summary, odd):
    assert odd_summary["small"]["count"] == 49  # 40 pixels wide
    assert odd_summary["small"]["smallest"][0] == "train/disc/deep.png"
    assert scan_source(str(odd), QUIET)[0]["small"] == {"input": None, "count": 0, "smallest": []}


def test_imbalance_is_told_with_a_remedy_from_four_to_one_on(odd_summary):
    balance = odd_summary["imbalance"]
    assert balance["largest"] == {"class": "stripes", "usable": 26}
    assert balance["smallest"] == {"class": "square", "usable": 9}
    assert (balance["ratio"], balance["hint"]) == (2.89, None)
    counts = summary_module.imbalance({"a": 4, "b": 16})
    assert counts["ratio"] == 4
    assert "--set balance=weights" in counts["hint"]


def test_near_duplicates_across_parts_come_first(odd_summary):
    near = odd_summary["near_duplicates"]
    assert near["across_parts"] >= 1
    found = {tuple(pair["ids"]): pair for pair in near["pairs"]}
    pair = found["test/square/alike.png", "train/square/alike.jpg"]
    assert pair["across_parts"]
    assert 0 <= pair["bits"] <= NEAR
    places = [pair["across_parts"] for pair in near["pairs"]]
    assert places == sorted(places, reverse=True)


def test_arrays_are_summarised_too():
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 9, 3), dtype=np.uint8)
    source = open_source((images, [0, 1, 0, 1]))
    found = scan(source.parts["train"], QUIET)
    summary = summary_module.summarise(source.parts, found, 32)
    assert summary["formats"] == {"array": 4}
    assert summary["sizes"]["median"] == [9, 8]
    assert summary["misnamed"] == []


def test_the_table_names_all_of_it(odd):
    result = CliRunner().invoke(main, ["data", "scan", str(odd), "--set", "image_size=32"])
    assert result.exit_code == 0
    for line in (
        "49 of 51 can be used",
        "sizes     smallest 8 x 9, median 40 x 48",
        "formats   25 PNG, 20 BMP",
        "modes     43 RGB, 1 grey, 1 CMYK",
        "left out  empty file: train/disc/empty.jpg",
        "twice     test/disc/again.png, train/disc/disc00.png, in two parts",
        "train/square/disc01.png, with two labels",
        "misnamed  train/disc/named.jpg: is PNG, its name says JPEG",
        "animated  the first frame counts: train/disc/moving.gif",
        "small     1 images have a side below the model's input of 32 pixels",
    ):
        assert line in result.stdout
    assert "imbalance" not in result.stdout


def test_json_carries_the_summary_and_nothing_else(odd):
    arguments = ["data", "scan", str(odd), "--json", "--set", "image_size=48"]
    result = CliRunner().invoke(main, arguments)
    summary = json.loads(result.stdout)
    assert summary["source"] == str(odd)
    assert summary["small"]["input"] == 48
    assert summary["files"]["usable"] == 49


def test_an_unbalanced_set_is_told_the_remedy(tmp_path):
    folder = write_images(tmp_path / "two", labels=("disc", "square"), count=2)
    random = np.random.default_rng(3)
    for i in range(8):
        draw_image("disc", random).save(folder / "disc" / f"more{i}.png")
    result = CliRunner().invoke(main, ["data", "scan", str(folder)])
    assert "imbalance disc has 5 times as many as square (10 and 2)" in result.stdout
    assert "--set balance=weights" in result.stdout


def test_many_files_of_one_fault_take_one_line(tmp_path):
    folder = write_images(tmp_path / "holes", count=2)
    for i in range(30):
        (folder / "disc" / f"hole{i:02d}.jpg").touch()
    result = CliRunner().invoke(main, ["data", "scan", str(folder)])
    assert result.stdout.count("left out") == 1
    assert (
        "empty file: disc/hole00.jpg, disc/hole01.jpg, disc/hole02.jpg and 27 more" in result.stdout
    )


# The contact sheet


def test_the_sheet_shows_what_is_suspicious(odd, tmp_path):
    sheet = tmp_path / "sheet.png"
    result = CliRunner().invoke(main, ["data", "scan", str(odd), "--sheet", str(sheet)])
    assert result.exit_code == 0
    assert f"sheet     {sheet}: " in result.stdout
    with Image.open(sheet) as image:
        colours = image.convert("RGB").getcolors(2**24)
    assert image.width > 1000
    assert len(colours) > 500  # images, not names alone


def test_a_sheet_of_a_clean_set_says_so(image_folder, tmp_path):
    sheet = tmp_path / "clean.PNG"
    arguments = ["data", "scan", str(image_folder), "--sheet", str(sheet), "--set", "image_size=32"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    with Image.open(sheet) as image:
        assert image.height > 10


@pytest.mark.parametrize("name", ["sheet.jpg", "absent/sheet.png", "folder.png"])
def test_a_sheet_that_cannot_be_is_refused_before_work(image_folder, tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    result = CliRunner().invoke(
        main, ["data", "scan", str(image_folder), "--sheet", str(tmp_path / name)]
    )
    assert result.exit_code == 2
    assert "--sheet: must be a PNG file in a folder that exists. Allowed: such as" in result.stderr
    assert result.stdout == ""


def test_a_sheet_on_a_full_disk_is_said(image_folder):
    from tlkit.data.scan.contact_sheet import write_sheet

    summary, examples, shown = scan_source(str(image_folder), QUIET)
    with pytest.raises(DataError, match=r"--sheet .*: cannot be written: "):
        write_sheet(summary, examples, image_folder / "disc" / "disc00.png" / "sheet.png", shown)


# Near-duplicates


def hashed(image: bytes) -> int:
    return perceptual_hash(decode(image).numpy())


def encoded(image, form="PNG", **options) -> bytes:
    import io

    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def scene(seed: int) -> Image.Image:
    """Soft shapes at random: as much low frequency as a photograph has."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: encoded(x, "JPEG", quality=40),
        lambda x: encoded(x.resize((80, 60)), "PNG"),
        lambda x: encoded(x.convert("L"), "WEBP"),
        lambda x: encoded(ImageEnhance.Brightness(x).enhance(0.8)),
    ],
    ids=["compressed", "halved", "grey", "darker"],
)
def test_changed_copies_are_near_and_strangers_are_not(change):
    scenes = [scene(seed) for seed in range(20)]
    hashes = [hashed(encoded(x)) for x in scenes]
    assert near_pairs(hashes) == []
    hashes.append(hashed(change(scenes[3])))
    assert [pair[:2] for pair in near_pairs(hashes)] == [(3, 20)]


def test_a_turned_copy_with_its_exif_tag_is_near():
    tags = Image.Exif()
    tags[0x0112] = 6
    turned = encoded(scene(1).rotate(90, expand=True), "JPEG", quality=90, exif=tags)
    assert near_pairs([hashed(encoded(scene(1))), hashed(turned)])


def test_flat_and_unreadable_images_are_near_to_nothing():
    flat = [hashed(encoded(Image.new("RGB", (64, 64), c))) for c in ("red", "red")]
    assert flat == [NO_HASH, NO_HASH]
    assert near_pairs([*flat, 5]) == []


def test_pairs_are_found_across_blocks_and_sorted():
    hashes = [int(x) for x in np.random.default_rng(0).integers(0, 2**63, 600, dtype=np.uint64)]
    hashes[599] = hashes[2] ^ 0b111
    hashes[300] = hashes[299] ^ 0b1
    hashes[0] = hashes[1] ^ (2**9 - 1)  # nine bits: not near
    assert near_pairs(hashes) == [(299, 300, 1), (2, 599, 3)]


def test_too_many_images_for_all_pairs_are_told(odd, monkeypatch):
    monkeypatch.setattr(summary_module, "MAX_COMPARED", 5)
    result = CliRunner().invoke(main, ["data", "scan", str(odd)])
    assert "alike     near-duplicates were not searched: more than 5 images" in result.stdout


def test_training_says_near_duplicates_across_its_own_parts_if_asked(tmp_path, capsys):
    folder = write_images(tmp_path / "alike", count=6)
    for file in sorted(folder.rglob("*.png")):
        Image.open(file).save(file.with_suffix(".jpg"), quality=90)
    fields = {**TINY, "near_duplicates": True, "regime": "small"}
    run = tlkit.train(folder, out=tmp_path / "run", **fields)
    near = json.loads((run.folder / "scan.json").read_text())["near_duplicates"]
    assert near["across_parts"] >= 1
    assert "near      " in capsys.readouterr().out
    splits = json.loads((run.folder / "scan.json").read_text())["splits"]
    part_of = {id_: part for part, ids in splits.items() for id_ in ids}
    one, other = near["pairs"][0]["ids"]
    assert part_of[one] != part_of[other]


# What training makes of it


def test_training_leaves_out_lists_and_summarises(odd, tmp_path):
    run = tlkit.train(odd, out=tmp_path / "run", regime="small", progress=False, **TINY)
    found = json.loads((run.folder / "scan.json").read_text())
    assert set(found) >= {"source", "classes", "left_out", "duplicates", "splits"}
    reasons = {item["id"]: item["reason"] for item in found["left_out"]}
    assert reasons == {
        "train/disc/empty.jpg": "empty file",
        "train/disc/words.jpg": "not an image: starts with b'words'",
        "train/disc/disc00.png": "same content as test/disc/again.png",
    }
    assert found["formats"] == {"PNG": 25, "BMP": 20, "JPEG": 3, "GIF": 1}
    assert found["small"] == {"input": 32, "count": 1, "smallest": ["train/disc/deep.png"]}
    assert "near_duplicates" not in found
    assert found["classes"]["test"] == {"disc": 2, "square": 2, "stripes": 1}
    with pytest.raises(DataError, match=r"2 files cannot be used \(--strict\)"):
        tlkit.train(odd, out=tmp_path / "no", strict=True, progress=False, **TINY)
    assert not (tmp_path / "no").exists()


REPEATS = {
    "none": ([], None),
    "one": (
        [("disc/disc00.png", "disc/again.png")],
        "1 image has the content of another in the same part, such as disc/disc00.png that of "
        "disc/again.png: ",
    ),
    "three of one": (
        [("disc/disc00.png", "disc/a.png"), ("disc/disc00.png", "disc/b.png")],
        "2 images have the content of another in the same part, such as disc/b.png that of ",
    ),
    "of two classes": (
        [("disc/disc00.png", "square/a.png")],
        "1 image has the content of another in the same part, such as square/a.png that of disc/",
    ),
    "of two": (
        [("disc/disc00.png", "disc/x.png"), ("square/square01.png", "square/y.png")],
        "2 images have the content of another in the same part, such as disc/x.png that of disc/",
    ),
}


@pytest.mark.parametrize("case", REPEATS)
def test_images_that_are_used_twice_are_counted_and_one_is_named(tmp_path, capsys, case):
    copies, words = REPEATS[case]
    folder = write_images(tmp_path / "data", count=5)
    for one, other in copies:
        shutil.copy(folder / one, folder / other)
    made = load_dataset(make_spec({"data": str(folder), "image_size": 32}), {}, Progress())
    said = [x for x in capsys.readouterr().out.splitlines() if x.startswith("twice ")]
    assert len(said) == bool(words)
    if words:
        assert words in said[0]
        assert said[0].endswith("all of them: duplicates in scan.json")
        assert made.scan_json()["duplicates"]


def test_images_of_a_part_that_another_has_too_are_named_with_the_reason(tmp_path, capsys):
    folder = tmp_path / "data"
    for seed, part in enumerate(("train", "test")):
        write_images(folder / part, count=4, seed=seed)
    shutil.copy(folder / "test" / "disc" / "disc00.png", folder / "train" / "disc" / "disc03.png")
    load_dataset(make_spec({"data": str(folder), "image_size": 32}), {}, Progress())
    said = capsys.readouterr().out
    assert "; 1 file left out (scan.json)" in said
    assert "left out  train/disc/disc03.png: same content as test/disc/disc00.png\n" in said
    assert "twice" not in said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, []),
        ({"val": 0.15}, []),  # as by default
        ({"val": 0.3}, ["val: has no effect: the data has that part already, of 6 images"]),
        ({"test": 0}, ["test: has no effect: the data has that part already, of 6 images"]),
        ({"val": 0.2, "test": 0.2}, ["val: has no effect: ", "test: has no effect: "]),
        ({"val": "OWN"}, ["val: the data's own, 6 images, is not used: another is given"]),
        ({"val": "OWN", "test": 0.3}, ["val: the data's own, 6", "test: has no effect: "]),
    ],
    ids=str,
)
def test_a_part_that_is_asked_for_and_there_already_is_said(tmp_path, capsys, asked, said):
    for seed, part in enumerate(("train", "val", "test", "own")):
        folder = tmp_path / "own" if part == "own" else tmp_path / "data" / part
        write_images(folder, count=2, seed=seed)
    fields = {k: str(tmp_path / "own") if v == "OWN" else v for k, v in asked.items()}
    load_dataset(
        make_spec({"data": str(tmp_path / "data"), "image_size": 32, **fields}), {}, Progress()
    )
    notes = [x for x in capsys.readouterr().out.splitlines() if x.startswith("note ")]
    assert len(notes) == len(said)
    assert all(any(text in note for note in notes) for text in said)
