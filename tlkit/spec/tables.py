"""The options of a table: how a CSV file of images and labels is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from tlkit.spec.parts import Part, option


def _as_names(value: Any) -> Any:
    """Take a text for a list of one, and whole numbers, as YAML reads them, for names."""
    if isinstance(value, str | Path):
        return [str(value)]
    value = value.tolist() if hasattr(value, "tolist") else value  # of numpy or pandas
    if isinstance(value, list | tuple):
        return [str(x) if isinstance(x, Path) or type(x) is int else x for x in value]
    return value


Names = Annotated[list[str], BeforeValidator(_as_names)]


_SIGNS = {"tab": "\t", "\\t": "\t", "blank": " "}


def _separator(value: Any) -> Any:
    value = _SIGNS.get(value, value) if isinstance(value, str) else value
    if isinstance(value, str) and (len(value) != 1 or value.isalnum() or value in '"\r\n\0'):
        raise ValueError(f"separates columns. Allowed: one sign, tab or blank. Received: {value!r}")
    return value


class TableSpec(Part):
    """How a table (.csv, .tsv, .txt) is read."""

    image: str = option(
        "image", "Column with the paths, relative to the file or to folder.", min_length=1
    )
    folder: Names = option(
        list,
        "Folder or folders in which the images are, relative to the file; empty: that of the file, "
        "or the one folder beside it in which they are found.",
    )
    outside: bool = option(
        False,
        "Take paths that lead out of the file's folder, absolute ones too; for a file that you "
        "wrote or trust.",
    )
    label: str = option("label", "Column with the label, or with labels joined by the separator.")
    separator: str = option("|", "What stands between several labels of an image.", min_length=1)
    group: str | None = option(
        None,
        "Column whose value says which images belong together (patient, scene, clip): they stay on "
        "one side of every split and fold. An empty value: the image stands alone.",
        min_length=1,
    )
    targets: Names = option(
        list,
        "Columns of numbers for regression; for the other tasks columns of 0 and 1, one a class "
        "(one 1 a row) or label; empty: the label's.",
    )
    uncertain: Literal["error", "negative", "positive"] = option(
        "error",
        "What -1 means in columns of 0 and 1: 0 (negative) or 1 (positive); with both an empty "
        "cell is 0.",
        source="U-Zeros, U-Ones: Irvin et al. 2019 (CheXpert), section 3.1",
    )
    unlabelled: Literal["error", "drop"] = option(
        "error",
        "Rows with nothing where the label stands: error, or drop: left out and counted. For "
        "multilabel with a label column they are images without labels, and stay.",
    )
    delimiter: Annotated[str | None, BeforeValidator(_separator)] = option(
        None,
        "What stands between columns: one sign, tab or blank; empty: comma, semicolon, tab or bar, "
        "by the header.",
    )
    encoding: str | None = option(
        None,
        "Encoding of the file, such as cp1252 or utf-16; empty: by its byte order mark, else "
        "UTF-8, else cp1252.",
        source="Python's names: https://docs.python.org/3/library/codecs.html#standard-encodings",
    )

    def given(self) -> dict[str, Any]:
        """Return the fields that are not as they are by default."""
        default = TableSpec()
        return {
            name: value
            for name in TableSpec.model_fields
            if (value := getattr(self, name)) != getattr(default, name)
        }
