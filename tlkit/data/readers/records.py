"""Images inside the record files of TensorFlow Datasets, read one by one, by number.

Random access is what lets a data set that is larger than memory be shuffled wholly, split, scanned
and resumed as files are: nothing is held of an image but where it lies.
"""

from __future__ import annotations

import array
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tlkit.data.example import content_digest
from tlkit.data.pictures.files import check_regular
from tlkit.errors import DataError

IMAGE = "image"
"""The feature that holds the encoded image."""

# A record is its length (8 bytes), a checksum of that (4), the data, a checksum of them (4):
# https://www.tensorflow.org/tutorials/load_data/tfrecord
_LENGTH = struct.Struct("<Q")
_BEFORE, _AROUND = 12, 16


class TFRecords:
    """The records of some TFRecord files; safe under several threads, holds no file open.

    Args:
        pieces: for each file its path, the records to skip and the number to take.

    Raises:
        DataError: a file is missing, or ends within a record.
    """

    def __init__(self, pieces: Sequence[tuple[str, int, int]]):
        found = [_offsets(path)[skip : skip + take] for path, skip, take in pieces]
        self._paths = [path for path, _, _ in pieces]
        self._starts = np.cumsum([0, *map(len, found)])
        self._offsets = np.concatenate(found)

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, number: int) -> bytes:
        piece = int(np.searchsorted(self._starts, number, side="right")) - 1
        with open(self._paths[piece], "rb") as file:
            file.seek(int(self._offsets[number]))
            (length,) = _LENGTH.unpack(file.read(_BEFORE)[: _LENGTH.size])
            return file.read(length)


def _offsets(path: str) -> np.ndarray:
    """Return where each record of a TFRecord file starts; reads the lengths alone."""
    offsets = array.array("q")
    try:
        size = check_regular(path)
        with open(path, "rb") as file:
            position = 0
            while position + _AROUND <= size:
                file.seek(position)
                offsets.append(position)
                (length,) = _LENGTH.unpack(file.read(_BEFORE)[: _LENGTH.size])
                if length == 0:  # no example; a sparse file of terabytes would hold nothing else
                    break
                position += _AROUND + length
    except OSError as error:
        raise DataError(f"data {path}: cannot be read: {error.strerror}") from error
    if position != size:
        raise DataError(f"data {path}: is damaged: it ends within a record. Prepare it anew")
    return np.frombuffer(offsets, np.int64) if offsets else np.zeros(0, np.int64)


class Records:
    """The examples of a split, by number.

    Args:
        pieces: as for `TFRecords`.
        kind: `tfrecord` or `array_record`.
    """

    def __init__(self, pieces: Sequence[tuple[str, int, int]], kind: str):
        self.folder = Path(pieces[0][0]).parent
        self._records: Any = TFRecords(pieces) if kind == "tfrecord" else _array_records(pieces)

    def __len__(self) -> int:
        return len(self._records)

    def features(self, number: int) -> dict[str, Any]:
        """Return the features of an example as the record holds them.

        Raises:
            OSError: the record is damaged.
        """
        try:
            return tf.train.Example.FromString(self._records[number]).features.feature
        except OSError:
            raise
        except Exception as error:  # what three libraries raise at bytes that are none of theirs
            raise OSError(0, f"record {number} of {self.folder} is damaged") from error

    def image(self, number: int, digest: str | None) -> bytes:
        """Return the encoded image, held against its content hash where that is known.

        Raises:
            OSError: the record is damaged, or holds another image.
        """
        content = b"".join(self.features(number)[IMAGE].bytes_list.value)
        if digest is not None and content_digest(content) != digest:
            raise OSError(
                0, f"record {number} of {self.folder} is not what its index says; prepare it anew"
            )
        return content

    def label(self, number: int) -> bytes:
        """Return the bytes of a label that is a file, such as a mask.

        Raises:
            OSError: the record is damaged.
        """
        return b"".join(self.features(number)["label"].bytes_list.value)


def _array_records(pieces: Sequence[tuple[str, int, int]]) -> Any:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource([f"{path}[{skip}:{skip + take}]" for path, skip, take in pieces])
