"""Imports TensorFlow quickly, its start-up notes kept off the screen."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Leave the garbage collector off, and what was made for good out of its later passes.

    Modules are no garbage; looking through them again and again takes a fifth of the time of the
    import (measured: 4.7 s with, 3.7 s without).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()


@_uncollected()
def import_tensorflow() -> None:
    """Import TensorFlow with standard error turned away.

    The C++ side prints a dozen lines on builds and missing GPUs straight to file descriptor 2,
    some of them before `TF_CPP_MIN_LOG_LEVEL` is read. If the start fails, all of it is shown; if
    the user has set that variable, nothing is turned away.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        import tensorflow  # noqa: F401

        return
    # 3: errors as well, since missing CUDA and number types that oneDNN lacks count as errors
    # there; what really fails is raised in Python.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow as tf

            tf.get_logger().setLevel("ERROR")  # notes on retracing, which only tlkit could act on
        except BaseException:
            os.dup2(kept, 2)
            notes.seek(0)
            os.write(2, notes.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
