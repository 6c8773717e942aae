"""The rows of a CSV file as spreadsheets and competitions write it: encoding, separator, header."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlkit.data.pictures.files import read_file
from tlkit.errors import DataError, printable
from tlkit.spec.tables import TableSpec

TABLES = (".csv", ".tsv", ".txt")
"""Endings of the files that are read as tables, in any case."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What may stand between columns without being told. Semicolons: spreadsheets where the comma is
the decimal sign; tabs: their text export."""

BLANKS = " "
"""Any number of blanks and tabs, as in lists of `path label`."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
"""Byte order marks: The Unicode Standard, section 23.8."""

_LINES = re.compile(r"\r\n?|\n")

_BINARY = {b"PK\3\4": "an Excel workbook or a ZIP archive", b"\xd0\xcf\x11\xe0": "an Excel file"}


@dataclass
class Rows:
    """A table that was read.

    Attributes:
        header: names of the columns, without blanks around them.
        rows: for each row the line that it begins in, and its cells by column.
        separator: what stands between the columns.
        notes: what had to be guessed.
    """

    header: list[str]
    rows: list[tuple[int, dict[str, str]]]
    separator: str
    notes: list[str] = field(default_factory=list)


def read_rows(
    path: Path,
    table: TableSpec,
    wanted: Sequence[str],
    is_image: Callable[[str], bool],
    also: Sequence[str] = (),
) -> Rows:
    """Read a table.

    Args:
        wanted: columns that are needed, the one with the images first; the separator is the one
            by which most of them are found.
        is_image: whether a cell names an image that is there. A first line that begins with one
            and has as many fields as are wanted is no header.
        also: columns that are read where they are there.

    Raises:
        DataError: the file cannot be read or is no text, a quote is not closed, or a row has more
            or fewer fields than the header.
    """
    text, notes = _decode(path, table)
    text, separator = _told_by_excel(text)
    separator = table.delimiter or separator or _find_separator(text, wanted, is_image)
    records = list(_records(text, separator, path, len(wanted)))
    if not records:
        raise DataError(f"data {path}: is empty. Allowed: {', '.join(wanted)} in the first line")
    header = [printable(name.strip()) for name in records[0][1]]
    if not table.delimiter and separator != {".tsv": "\t"}.get(path.suffix.lower(), ","):
        notes.append(f"{path.name}: columns are separated by {SEPARATORS.get(separator, 'blanks')}")
    if not set(wanted) & set(header) and len(header) == len(wanted) == 2 and is_image(header[0]):
        header = list(wanted)
        notes.append(f"{path.name}: has no header; its columns are taken as {', '.join(wanted)}")
    else:
        records = records[1:]
        notes += _in_other_case(path, header, [*wanted, *also])
    rows = [(line, _cells(path, line, fields, header)) for line, fields in records if any(fields)]
    _check_quotes(path, rows, len(header), separator)
    return Rows(header, rows, separator, notes)


def _decode(path: Path, table: TableSpec) -> tuple[str, list[str]]:
    """Return the text of a file, and a note where its encoding was guessed."""
    try:
        content = read_file(path)
    except OSError as error:
        raise DataError(f"data {path}: cannot be read: {error.strerror}") from error
    for start, name in _BINARY.items():
        if content.startswith(start):
            raise DataError(f"data {path}: is {name}, no CSV file; save it as one (CSV UTF-8)")
    if table.encoding:
        return _strictly(path, content, table.encoding, table.encoding), []
    for mark, encoding, name in _MARKS:
        if content.startswith(mark):
            notes = [] if name == "UTF-8" else [f"{path.name}: is {name} by its byte order mark"]
            return _strictly(path, content, encoding, name), notes
    if content.partition(b"\n")[0].count(0) > 1:
        raise DataError(
            f"data {path}: holds NUL bytes. For UTF-16 without a byte order mark: "
            "--set table.encoding=utf-16-le (or utf-16-be)"
        )
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        _check_not_damaged(path, content, error.start)
        text = _strictly(path, content, "cp1252", "UTF-8 nor as cp1252")
        word = next((x for x in re.findall(r"\w+", text) if not x.isascii()), "")
        such = f", such as {word!r}" if word else ""
        return text, [
            f"{path.name}: is not UTF-8, read as cp1252 (Windows){such}; for another encoding "
            "--set table.encoding=NAME"
        ]
    return text, []


def _check_not_damaged(path: Path, content: bytes, start: int) -> None:
    """Refuse what is UTF-8 but for a few bytes: as cp1252 all its accents would be wrong."""
    text = content.decode(errors="replace")
    wrong = text.count("\ufffd")
    if sum(not x.isascii() for x in text) > 2 * wrong:
        line = len(_LINES.findall(content[:start].decode())) + 1
        raise DataError(
            f"data {path}, line {line}: is not UTF-8, and the rest of the file is. Mend it, or "
            f"name its encoding with --set table.encoding=NAME. Received: byte {content[start]:#x}"
        )


def _strictly(path: Path, content: bytes, encoding: str, name: str) -> str:
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        raise DataError(
            f"data {path}: cannot be read as {name}: {error}. Allowed: text; its encoding can be "
            "named with --set table.encoding=NAME"
        ) from error
    except (LookupError, ValueError) as error:  # the latter: a NUL in the name
        raise DataError(
            "table.encoding: unknown. Allowed: those of Python, such as utf-8, cp1252, utf-16, "
            f"shift_jis. Received: {encoding!r}"
        ) from error


def _told_by_excel(text: str) -> tuple[str, str]:
    """Empty a first line `sep=;`, by which Excel is told the separator."""
    found = re.match(r'"?sep=([,;|\t])"?(?=\r?\n)', text, re.IGNORECASE)
    return (text[found.end() :], found[1]) if found else (text, "")


def _find_separator(text: str, wanted: Sequence[str], is_image: Callable[[str], bool]) -> str:
    """Return the separator by which most of the wanted columns are there, then most columns."""
    first = next((line for line in _LINES.split(text) if line.strip()), "")
    names = {name.casefold() for name in wanted}

    def score(separator: str) -> tuple[int, int]:
        fields = _fields(first, separator)
        return len(names & {x.strip().casefold() for x in fields}), len(fields)

    best = max(SEPARATORS, key=score)  # the first of equals
    listed = _fields(first, BLANKS, len(wanted))
    two = score(best)[1] == 1 and len(listed) == len(wanted) > 1
    sure = two and (names == {x.casefold() for x in listed} or is_image(listed[0]))
    return BLANKS if sure else best


def _fields(line: str, separator: str, count: int = 0) -> list[str]:
    """Return the fields of a line; with blanks `count` of them, the first may hold some itself."""
    if separator == BLANKS:
        return line.strip().rsplit(None, count - 1 if count else -1)
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a field that is too long: said when the rows are read
        return []


def _records(text: str, separator: str, path: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the line that each record begins in, and its fields."""
    if separator == BLANKS:
        for line, content in enumerate(_LINES.split(text), start=1):
            if content.strip():
                yield line, _fields(content, BLANKS, count)
        return
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, [x.strip() for x in fields]
            line = reader.line_num + 1
    except csv.Error as error:
        reason = (
            "a quote that opens in this row is never closed"
            if str(error) == "unexpected end of data"
            else f"is not CSV: {printable(str(error))}"
        )
        raise DataError(f"data {path}, line {line}: {reason}") from error


def _in_other_case(path: Path, header: list[str], wanted: Sequence[str]) -> list[str]:
    """Rename columns of `header` that differ from wanted ones in case alone; return notes."""
    notes = []
    for name in wanted:
        alike = [i for i, x in enumerate(header) if x.casefold() == name.casefold()]
        if name not in header and len(alike) == 1:
            notes.append(f"{path.name}: column {header[alike[0]]} is taken as {name}")
            header[alike[0]] = name
    return notes


def _cells(path: Path, line: int, fields: list[str], header: list[str]) -> dict[str, str]:
    """Return the cells of a row by column; only empty ones may be too many or too few."""
    if any(fields[len(header) :]) or any(header[len(fields) :]):
        raise DataError(
            f"data {path}, line {line}: needs as many fields as the header; one that holds the "
            f"separator stands in quotes. Allowed: {len(header)}. Received: {len(fields)}"
        )
    return dict(zip(header, fields, strict=False)) | dict.fromkeys(header[len(fields) :], "")


def _check_quotes(
    path: Path, rows: list[tuple[int, dict[str, str]]], count: int, separator: str
) -> None:
    """Refuse a field that holds whole rows: its quote was closed by that of a later row."""
    for line, cells in rows:
        for name, cell in cells.items():
            inner = _LINES.split(cell)[1:] if "\n" in cell or "\r" in cell else []
            if count > 1 and any(x.count(separator) >= count - 1 for x in inner):
                raise DataError(
                    f"data {path}, line {line}: {name or 'a field'} holds whole rows; a quote that "
                    f"opens in this row is not closed in it. Received: {len(inner) + 1} lines"
                )
