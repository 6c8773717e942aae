"""Images read again after the scan: each is held against what the scan found in it.

What is kept of an image (its features, its part of the split, its row in a run's record) is kept
under the hash that the scan computed, while every pass reads the file anew. So every pass hashes
what it reads: bytes that are not those of the scan never reach a network, and nothing computed of
them can be kept under another image's name. States of files (size, times, inode), which
`verdicts` goes by, would be cheaper by little and less sound: a page that a program has mapped for
writing may change without a new time, servers have clocks of their own, and a file may be changed
and put back within the pass. BLAKE2b takes about 1 ms a megabyte and holds no lock.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from tlkit.data.example import Example, FileLabel, content_digest
from tlkit.data.scan.findings_cache import forget
from tlkit.errors import DataError, printable

SHOWN = 3
"""Images that a message names."""


class Reading:
    """Reads the images of one scan; safe under several threads.

    Args:
        digests: content hash of each image, by the example's id; one that is not in there is read
            unchecked.
        kept: the file with the findings of that scan. What it says of an image that turns out to
            be another is forgotten, or it would be believed again and again.
    """

    def __init__(self, digests: Mapping[str, str], kept: Path | None = None):
        self._digests, self._kept = digests, kept
        self._problems: dict[str, str] = {}
        self._files: list[str] = []
        self._lock = threading.Lock()

    def read(self, example: Example) -> bytes:
        """Return the bytes of an image's file or record.

        Raises:
            OSError: they cannot be read, or are not those that the scan hashed. Inside a tf.data
                pipeline that becomes an error of TensorFlow's; `told` says what it was.
        """
        try:
            content = example.read()
        except OSError as error:
            self._note(example, f"cannot be read any more ({error.strerror})")
            raise
        # Of a record with a known hash `read` has done it.
        expected = self._digests.get(example.id) if example.digest is None else None
        if expected is not None and content_digest(content) != expected:
            self._note(example, "changed while tlkit was reading")
            raise OSError(0, f"{example.id} has changed since it was scanned")
        return content

    def read_label(self, label: FileLabel) -> bytes:
        """Return the content of a label's file.

        Raises:
            OSError: as of an image.
        """
        name, path = printable(str(label.path)), os.path.abspath(label.path)
        try:
            content = label.read()
        except OSError as error:
            self._keep(name, path, f"cannot be read any more ({error.strerror})")
            raise
        if label.digest and not label.drawn and content_digest(content) != label.digest:
            self._keep(name, path, "changed while tlkit was reading")
            raise OSError(0, f"{name} has changed since it was scanned")
        return content

    def _note(self, example: Example, problem: str) -> None:
        path = None if example.path is None else os.path.abspath(example.path)
        self._keep(example.id, path, problem)

    def _keep(self, name: str, path: str | None, problem: str) -> None:
        with self._lock:
            self._problems[name] = problem
            if path is not None:
                self._files.append(path)

    @contextlib.contextmanager
    def told(self, again: str = "start again") -> Iterator[None]:
        """Turn what is raised because an image could not be read, or was another, into one message.

        Args:
            again: what to do then.

        Raises:
            DataError: names the images, and what is wrong with the first.
        """
        try:
            yield
        except Exception as error:
            if not self._problems or isinstance(error, DataError):
                raise
            if self._kept:
                forget(self._kept, self._files)
            (id_, problem), *others = sorted(self._problems.items())
            names = [other for other, _ in others[: SHOWN - 1]]
            more = len(others) - len(names)
            also = f"; likewise {', '.join(names)}" if names else ""
            also += f" and {more} more" if more else ""
            raise DataError(
                f"data {id_}: {problem}: it is no longer what was scanned{also}. Nothing computed "
                f"of it was kept; {again}"
            ) from error
