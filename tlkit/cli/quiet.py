"""Keeps TensorFlow's start-up notes off the screen."""

from __future__ import annotations

import os
import sys
import tempfile


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
