"""Options under the names of earlier versions, which are accepted with a note."""

from __future__ import annotations

from typing import Any

from tlkit.errors import received

RENAMED = (
    "views is called augmented_copies from this version on, without the image itself: views=4 is "
    "augmented_copies=3"
)


def renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields under the names of this version.

    `views: 4`, the image and three copies, is `augmented_copies: 3`.

    Raises:
        ValueError: an option stands there under both names.
    """
    if "views" not in fields:
        return fields
    fields = dict(fields)
    views = fields.pop("views")
    if "augmented_copies" in fields:
        raise ValueError(
            "views: is called augmented_copies, which is given as well. Allowed: the latter alone. "
            f"Received: {received(views)} and {received(fields['augmented_copies'])}"
        )
    whole = isinstance(views, int) and not isinstance(views, bool)
    return fields | {"augmented_copies": views - 1 if whole else views}
