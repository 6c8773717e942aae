"""`keras.applications`, drop-in: change the import, and freezing and head swap are arguments.

    from tlkit.applications import MobileNetV2
    model = MobileNetV2(classes=10, freeze="until=block_12")

Every function has Keras's own signature and meaning and a few arguments more (see
`tlkit.applications.dropin.drop_in`), and returns a plain `keras.Model`. The modules have the names
of Keras's (`tlkit.applications.mobilenet_v2`), with `preprocess_input` and `decode_predictions`.
"""

from __future__ import annotations

import importlib

from tlkit.backbones.catalog import CATALOG
from tlkit.errors import did_you_mean

MODULES = (*dict.fromkeys(row.module for row in CATALOG.values()), "resnet50", "imagenet_utils")
__all__ = list(CATALOG)


def __getattr__(name: str):
    if name in CATALOG:
        return getattr(importlib.import_module(f"{__name__}.{CATALOG[name].module}"), name)
    if name in MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}.{did_you_mean(name, [*CATALOG, *MODULES])}"
    )


def __dir__() -> list[str]:
    return sorted([*CATALOG, *MODULES])
