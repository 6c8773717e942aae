"""tlkit: transfer learning with `keras.applications` on your own images.

    import tlkit
    run = tlkit.train("flowers/", backbone="MobileNetV2")
    run.predict(["a.jpg"])
    run.export("served/")

Public names are imported when they are first used, so that `import tlkit` is quick and imports
no TensorFlow.
"""

from __future__ import annotations

import importlib
import os

__version__ = "0.1.0"

_PUBLIC = {
    "train": "tlkit.commands.train",
    "plan": "tlkit.commands.train",
    "prepare_data": "tlkit.commands.train",
    "preview": "tlkit.commands.train",
    "resume": "tlkit.commands.train",
    "scan": "tlkit.commands.scan",
    "list_backbones": "tlkit.backbones.catalog",
    "compare": "tlkit.commands.compare.compare",
    "lr_find": "tlkit.commands.lr_find",
    "report": "tlkit.commands.report",
    "compare_runs": "tlkit.commands.compare_runs",
    "explain": "tlkit.commands.explain",
    "open_run": "tlkit.run",
    "Run": "tlkit.run",
    "open_export": "tlkit.export.opened",
    "Export": "tlkit.export.opened",
    "RunSpec": "tlkit.spec.run",
    "TlkitError": "tlkit.errors",
    "freeze": "tlkit.planning.freeze_model",
    "unfreeze": "tlkit.planning.freeze_model",
    "read_freeze": "tlkit.planning.freeze_model",
}
__all__ = ["__version__", *_PUBLIC]

# Keras keeps a relative KERAS_HOME as it is given, which breaks after a change of folder, and
# reads it once, at its import (keras/src/backend/config.py).
if os.environ.get("KERAS_HOME"):
    os.environ["KERAS_HOME"] = os.path.abspath(os.environ["KERAS_HOME"])


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tlkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
