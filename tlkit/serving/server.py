"""The process that serves: a socket, HTTP, and a stop that loses no answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tlkit.backbones.sides import told
from tlkit.data.wording import number
from tlkit.progress import Progress
from tlkit.serving.app import application
from tlkit.serving.guard import LOOPBACK
from tlkit.serving.limits import BODY_SECONDS, Limits
from tlkit.serving.located import version_of
from tlkit.serving.model import Served, open_served, warm_up
from tlkit.serving.service import Service

DRAIN_SECONDS = 1.0
"""From SIGTERM, when `/readyz` turns 503, until no connection is taken any more: who distributes
requests looks every second or so."""

GRACE_SECONDS = 30
"""Until which answers have to be complete then."""

NAMES_SHOWN = 8
"""Names of outputs in the first line."""


def serve(
    path: Path, listening: socket.socket, name: str, limits: Limits, progress: Progress
) -> None:
    """Serve a run or an export until SIGTERM or Ctrl-C.

    Args:
        path: of a run folder or an export.
        listening, name: see `located`.

    Raises:
        RunFolderError, ExportError, SpecError: see `open_served` and `warm_up`.
    """
    served = open_served(path, name, version_of(path), progress)
    _say_served(served, path, progress)
    seconds = warm_up(served, limits.batch, progress)
    most = max(seconds)
    progress.say(
        "warm-up",
        f"a single image {1000 * seconds[1]:.1f} ms, {number(most, 'image')} at once "
        f"{1000 * seconds[most]:.1f} ms ({most / seconds[most]:.0f} images/s)",
    )
    progress.say("limits", str(limits))
    service = Service(served, limits, seconds[1])
    host, port = listening.getsockname()[:2]
    alone = host in LOOPBACK
    if not alone:
        progress.say("note", f"{host}: whoever reaches this machine may ask; there is no password")
    app = application(service, LOOPBACK if alone else None)
    config = uvicorn.Config(
        app,
        http=Impatient,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    listening.listen()  # who comes from now on waits for the first answer, and is not refused
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    progress.say(
        "ready", f"{address}/ (a page), {address}/predict, {address}/v1/models/{served.name}"
    )
    try:
        asyncio.run(_Server(config, service).serve(sockets=[listening]))
    finally:
        service.close()
    answered = service.measures.answered()
    progress.say("stopped", f"{number(answered, 'image')} answered")


def _say_served(served: Served, path: Path, progress: Progress) -> None:
    names = served.task.outputs
    shown = ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
    progress.say(
        "serve",
        f"{served.name} ({path}, {served.kind}): {served.task.name}, {len(names)} "
        f"{served.task.called}: {shown}; input {told(served.size)} pixels",
    )


class _Server(uvicorn.Server):
    """Stops by signals in two steps, and leaves the exit code to who has called.

    uvicorn's own handlers close the door at once, and raise the signal anew at the end.
    """

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self._service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to SIGTERM and Ctrl-C while requests are served."""
        loop = asyncio.get_running_loop()
        for number_ in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number_, self._stop, loop)
        try:
            yield
        finally:
            for number_ in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number_)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._service.ready:  # asked for twice: now
            self.should_exit = self.force_exit = True
            return
        self._service.ready = False
        loop.call_later(DRAIN_SECONDS, setattr, self, "should_exit", True)


class Impatient(H11Protocol):
    """HTTP/1.1 that lets go of who does not come to the end of the headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def _watch(self) -> None:
        self._started = self.cycle
        self._timer = self.loop.call_later(BODY_SECONDS, self._look)

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._started and self.transport:
            self.transport.close()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)
