"""`tlkit` in processes of its own, forked from one that has imported TensorFlow before.

That import takes four seconds, most of what a small training takes; test_cli.py has processes that
begin as a person's do.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import SHARED

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tlkit.commands.train", "tlkit.run"])
_SAID = tempfile.TemporaryDirectory(prefix="tlkit-said-")


def _begin(words: list[str], env: dict[str, str], said: Path, limit: int | None) -> None:
    os.environ.clear()
    os.environ.update(env)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), stream)
    # A shell starts a job in the background with Ctrl-C ignored, and a child inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # else the kernel kills the process
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    sys.argv = ["tlkit", *words]
    from tlkit.cli.main import main

    main(words)


class Command:
    """`tlkit` with some words, begun at once.

    Args:
        env: the whole environment; that of this process unless given. `KERAS_HOME` is always that
            of the real weights, if they are there: Keras has read it when it was imported.
        limit: bytes that a file may have, as on a disk that is nearly full.
    """

    def __init__(self, *words: object, env: dict[str, str] | None = None, limit: int | None = None):
        self._said = Path(tempfile.mkdtemp(dir=_SAID.name))
        asked = ([str(word) for word in words], dict(env or os.environ), self._said, limit)
        self.process = _SERVER.Process(target=_begin, args=asked, daemon=True)
        with pytest.MonkeyPatch.context() as patch:  # as the server begins, so it stays
            if SHARED.is_dir():
                patch.setenv("KERAS_HOME", str(SHARED / "keras_home"))
            self.process.start()

    def wait(self, seconds: float | None = None) -> int | None:
        """Return the exit code, below 0 for a signal's; None: it runs on after these seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def send_signal(self, sign: int) -> None:
        os.kill(self.process.pid, sign)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    @property
    def stdout(self) -> str:
        return (self._said / "out").read_text()

    @property
    def stderr(self) -> str:
        return (self._said / "err").read_text()


def finished(*words: object, seconds: float = 300, **options) -> Command:
    """Return a command that has come to its end within this time."""
    command = Command(*words, **options)
    if command.wait(seconds) is None:
        command.kill()
        pytest.fail(f"not done after {seconds} s: {words}\n{command.stderr}")
    return command
