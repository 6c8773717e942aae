"""Folders and files written in one step, and what killed processes left of such writes."""

import os
import subprocess
import sys
import time

import pytest

from tlkit import atomic
from tlkit.atomic import file_draft, folder_draft, remove_leftovers, write_file


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "out"
    with folder_draft(target) as draft:
        (draft / "a").write_text("a")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    assert target.stat().st_mode & 0o777 == 0o755
    with pytest.raises(FileNotFoundError), folder_draft(tmp_path / "other") as draft:
        (draft / "absent" / "a").write_text("a")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_an_empty_folder_is_taken_and_a_full_one_kept(tmp_path):
    (tmp_path / "empty").mkdir()
    with folder_draft(tmp_path / "empty") as draft:
        (draft / "a").write_text("a")
    assert (tmp_path / "empty" / "a").is_file()
    with pytest.raises(OSError, match="not empty"), folder_draft(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty" / "a").is_file()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["out", "x" * 250, "a b\n", "[ab]*", "-out"])
def test_what_a_killed_process_left_is_named_and_removed(tmp_path, name):
    code = (
        "import os, sys; from pathlib import Path; from tlkit.atomic import folder_draft\n"
        "with folder_draft(Path(sys.argv[1])) as d: (d / 'a').write_text('a'); os._exit(9)"
    )
    target = tmp_path / name
    subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / ".hidden").write_text("another's")
    said = []
    with folder_draft(target, said.append):
        pass
    assert said == [f"{left}: left by a process that was killed, removed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".hidden", name])


def test_the_drafts_of_living_processes_stay(tmp_path, monkeypatch):
    target = tmp_path / "out"
    with folder_draft(target) as mine:
        assert remove_leftovers(target) == []
        assert mine.is_dir()
    own = f".out-draft-{atomic._here()}"
    (tmp_path / f"{own}-1-abc").mkdir()  # the first process lives
    (tmp_path / f".out-draft-otherone-{os.getpid()}-abc").mkdir()  # on another machine, new
    old = tmp_path / ".out-draft-otherone-5-abc"
    old.mkdir()
    long_ago = time.time() - 2 * atomic.ABANDONED
    os.utime(old, (long_ago, long_ago))
    (tmp_path / ".out-draft-nonsense").mkdir()
    assert remove_leftovers(target) == [old]


def test_a_file_is_replaced_in_one_step(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), file_draft(target):
        pass  # nothing was written
    assert target.read_text() == "old"
    with file_draft(target) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert target.read_text() == "new"


def test_a_file_is_written_where_its_name_leads(tmp_path):
    target, link = tmp_path / "a.txt", tmp_path / "link"
    write_file(target, b"old")
    link.symlink_to(target)
    write_file(link, b"new")
    assert (link.is_symlink(), target.read_bytes()) == (True, b"new")
    long = tmp_path / ("n" * 250)
    write_file(long, b"long")
    assert long.read_bytes() == b"long"
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path, b"")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "link", long.name}


def test_what_is_no_file_is_written_to(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, b"content")
    assert os.read(reader, 20) == b"content"
    assert pipe.is_fifo()
    os.close(reader)


def test_drafts_of_several_processes_have_names_and_rights_of_their_own(tmp_path):
    target = tmp_path / "a.txt"
    with file_draft(target, shared=True) as one, file_draft(target, shared=True) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert target.read_text() == "one"
    (tmp_path / "b.txt").write_text("")
    assert target.stat().st_mode == (tmp_path / "b.txt").stat().st_mode, "others may read it"
