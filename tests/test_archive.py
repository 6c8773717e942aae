"""Zip files as data: unpacked once, and nothing of a stranger's file leads anywhere else."""

from __future__ import annotations

import os
import shutil
import stat
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from tlkit.cli.main import main
from tlkit.data.readers import archive
from tlkit.data.readers.laid_out import seal_of, write_seal
from tlkit.data.readers.open import open_source
from tlkit.errors import DataError

FILES = ("flowers/rose/1.jpg", "flowers/tulip/1.jpg", "__MACOSX/flowers/rose/._1.jpg")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def zipped(path: Path, *names: str | zipfile.ZipInfo, content: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names:
            file.writestr(name, content)
    return path


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_source(path)
    return str(caught.value)


def left_in(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.rglob("*") if p.is_file())


def test_a_zip_file_is_unpacked_once(tmp_path, cache):
    path = zipped(tmp_path / "my flowers.ZIP", "flowers/", *FILES)
    source = open_source(str(path))
    assert (source.name, source.outputs) == ("my flowers", ("rose", "tulip"))
    assert [e.id for e in source.parts["train"]] == ["flowers/rose/1.jpg", "flowers/tulip/1.jpg"]
    (folder,) = (path for path in (cache / "unpacked").iterdir() if path.is_dir())
    assert source.notes == (
        f"{path} unpacked into {folder}",
        "the folder holds its data in flowers: read from there",
    )
    assert left_in(cache) == sorted(["1.jpg", "1.jpg", f"{folder.name}.names"])
    made = folder.stat().st_mtime_ns
    assert open_source(path).notes == source.notes
    assert folder.stat().st_mtime_ns == made
    zipped(path, *FILES, "flowers/lily/1.jpg")
    assert open_source(path).outputs == ("lily", "rose", "tulip")


def keeping_time(path: Path, content: bytes) -> None:
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "gone": lambda folder: (folder / "a" / "1.png").unlink(),
    "class gone": lambda folder: shutil.rmtree(folder / "a"),
    "all gone": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "new": lambda folder: shutil.copy(folder / "a" / "1.png", folder / "a" / "3.png"),
    "written": lambda folder: (folder / "a" / "1.png").write_bytes(b"A1"),
    "written, its time kept": lambda folder: keeping_time(folder / "a" / "1.png", b"A1"),
    "cut, its time kept": lambda folder: keeping_time(folder / "a" / "1.png", b""),
    "seal gone": lambda folder: seal_of(folder).unlink(),
    "copied": lambda folder: shutil.copy2(folder / "b" / "1.png", folder / "a" / "1.png"),
    "exchanged": lambda folder: (
        (folder / "a").rename(folder / "x"),
        (folder / "b").rename(folder / "a"),
        (folder / "x").rename(folder / "b"),
    ),
    "a file": lambda folder: (shutil.rmtree(folder), folder.write_text("")),
    "a link": lambda folder: (
        folder.rename(folder.with_name("aside")),
        folder.symlink_to("aside", target_is_directory=True),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_unpacked_is_unpacked_anew_once_it_has_changed(tmp_path, cache, change):
    path, content = tmp_path / "x.zip", {f"{a}/{i}.png": f"{a}{i}" for a in "ab" for i in (1, 2)}
    with zipfile.ZipFile(path, "w") as file:
        for name, text in content.items():
            file.writestr(name, text)
    folder = archive.unpack(path)
    time.sleep(0.02)  # the clock of a file system may tick a hundred times a second
    CHANGES[change](folder)
    assert archive.unpack(path) == folder
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {name: p.read_text() for name, p in found.items()} == content


def test_another_zip_file_of_the_same_size_and_time_is_another(tmp_path):
    path = tmp_path / "x.zip"
    for content in (b"one", b"two"):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(zipfile.ZipInfo("a/1.png"), content)
        os.utime(path, (10**9, 10**9))
        assert (archive.unpack(path) / "a" / "1.png").read_bytes() == content


def test_a_zip_file_may_be_given_for_a_part(tmp_path, image_folder):
    names = [f"{folder.name}/x.png" for folder in image_folder.iterdir()]
    source = open_source(image_folder, test=zipped(tmp_path / "test.zip", *names))
    assert [e.id for e in source.parts["test"]] == [f"test/{name}" for name in sorted(names)]
    assert source.notes[0].startswith(f"test: {tmp_path / 'test.zip'} unpacked into ")


def without_flag(name: str) -> str:
    """Return what `zipfile` reads where UTF-8 bytes are not said to be UTF-8."""
    return name.encode().decode("cp437")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("größe/1.jpg", "größe"),
        ("a\\b\\1.jpg", "a"),  # as some programs on Windows write
        ("./a/./1.jpg", "a"),
        ("日本/1.jpg", "日本"),
    ],
)
def test_names_are_decoded(tmp_path, written, read):
    path = zipped(tmp_path / "a.zip", written, "z/1.jpg")
    assert open_source(path).outputs == tuple(sorted((read, "z")))


def test_names_that_are_utf8_unsaid(tmp_path):
    info = zipfile.ZipInfo("a")
    info.filename = without_flag("größe/1.jpg")
    assert archive._name(info) == "größe/1.jpg"
    info.filename = "a\xe9/1.jpg"  # é of code page 437, no UTF-8
    assert archive._name(info) == "a\xe9/1.jpg"


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def encrypted(name: str, path: Path) -> Path:
    zipped(path, "a/1.jpg", name)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.rfind(mark) + offset] |= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../x.jpg", "leads out of the folder"),
        ("a/../../x.jpg", "leads out of the folder"),
        ("a\\..\\..\\x.jpg", "leads out of the folder"),
        ("/etc/x.jpg", "leads out of the folder"),
        (link("a/x.jpg"), "is a link"),
    ],
)
def test_what_leads_elsewhere_is_refused(tmp_path, cache, name, problem):
    path = zipped(tmp_path / "a.zip", "a/1.jpg", name, content=b"/etc/passwd")
    before = set(tmp_path.rglob("*"))
    assert problem in refused(path)
    assert set(tmp_path.rglob("*")) == before
    assert left_in(cache) == []


def test_an_encrypted_zip_file_is_refused(tmp_path):
    assert "b/1.jpg is encrypted. Allowed: a zip" in refused(
        encrypted("b/1.jpg", tmp_path / "a.zip")
    )


def test_a_bomb_is_refused(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(archive, "SMALL", 2**16)
    path = zipped(tmp_path / "a.zip", "a/1.jpg", content=bytes(2**20))
    assert "made to fill a disk" in refused(path)
    monkeypatch.setattr(archive, "SMALL", 2**26)
    monkeypatch.setattr(archive, "MOST_FILES", 0)
    assert "Allowed: up to 0 files and 50 times its size. Received: 1 files, 1,048," in refused(
        path
    )
    assert left_in(cache) == []


def test_a_disk_too_small_is_said(tmp_path, cache, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=archive.KEPT_FREE))
    path = zipped(tmp_path / "a.zip", *FILES, content=b"x")
    assert "takes 2 bytes unpacked below" in refused(path)
    assert list((cache / "unpacked").iterdir()) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a/1.jpg", "a//1.jpg", "a/1.jpg/b.jpg"])
def test_two_files_of_one_name_are_refused(tmp_path, cache, second):
    assert "cannot be unpacked" in refused(zipped(tmp_path / "a.zip", "a/1.jpg", second))
    assert list((cache / "unpacked").iterdir()) == []


def test_a_damaged_zip_file_is_refused(tmp_path, cache):
    path = zipped(tmp_path / "a.zip", *FILES, content=b"some words that are packed")
    content = path.read_bytes()
    for damaged in (b"", b"PK", content[:-30], content.replace(b"PK\x03\x04", b"PK\x03\x05")):
        path.write_bytes(damaged)
        assert f"data {path}: is no zip file that can be read: " in refused(path)
    start = 30 + len(FILES[0])  # APPNOTE 4.3.7: where the packed bytes begin
    path.write_bytes(content[:start] + bytes(5) + content[start + 5 :])
    assert "is no zip file that can be read" in refused(path)
    assert left_in(cache) == []


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("a.tar.gz", "tar -xf {0}/a.tar.gz -C {0}/a-data"),
        ("A.TGZ", "tar -xf {0}/A.TGZ -C {0}/A-data"),
        ("a.rar", "7z x {0}/a.rar -o{0}/a-data"),
        ("a b.tar", "tar -xf '{0}/a b.tar' -C '{0}/a b-data'"),
    ],
)
def test_other_archives_are_refused_with_what_to_type(tmp_path, name, typed):
    (tmp_path / name).touch()
    text = refused(tmp_path / name)
    assert "is an archive. Allowed: a zip file, or the folder that it is unpacked into" in text
    assert f"&& {typed.format(tmp_path)} && tlkit train " in text


def test_what_is_no_archive(tmp_path):
    (tmp_path / "a.json.gz").touch()
    for name in ("a.json.gz", "gone.tar", "gone.zip", "x" * 300 + ".zip"):
        assert "is an archive" not in refused(tmp_path / name)


def test_the_cache_is_cleared_of_it(tmp_path, cache):
    open_source(zipped(tmp_path / "a.zip", *FILES, content=bytes(9)))
    result = CliRunner().invoke(main, ["cache", "clear"])
    assert (result.exit_code, left_in(cache)) == (0, [])


def test_a_seal_is_written_in_one_step(tmp_path, monkeypatch):
    (folder := tmp_path / "folder").mkdir()
    write_seal(folder, "first")

    def half(self, text, **options):
        self.write_bytes(text[:2].encode())
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="the disk is full"):
        write_seal(folder, "second")
    assert seal_of(folder).read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "folder.names"]
