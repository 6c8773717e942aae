"""What a part of the data may be given as: a share of the training part, or a folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from tlkit.errors import received
from tlkit.spec.parts import as_path


def _share_or_folder(value: Any) -> Any:
    """Read `"0.2"` as a share and anything else that is text as a folder."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Path):
        raise ValueError(f"should be a share or a folder. Received: {received(value)}")
    try:
        share = float(value)
    except (TypeError, ValueError):  # the former: a Path
        if str(value):
            return as_path(str(value))
        share = math.nan
    except OverflowError:
        share = math.inf
    if not math.isfinite(share):
        raise ValueError(f"should be a share or a folder. Received: {received(value)}")
    return share


ShareOrFolder = Annotated[float | str, BeforeValidator(_share_or_folder)]
