"""What surrounds every request: who may ask, what an answer's headers say, bodies within limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from tlkit.serving.limits import BODY_SECONDS, Limits
from tlkit.serving.measures import Measures
from tlkit.serving.rest import Refused

LOOPBACK = ("127.0.0.1", "localhost", "::1")

HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
"""Of every answer. The page has all it needs from here: no script, font or image of elsewhere."""


class Busy(Exception):
    """All bodies together are beyond the limit: to be tried again later."""


class Guard:
    """ASGI middleware: checks the host that is asked for, sets headers, counts and times.

    Bound to the loopback address a service is for this machine alone; but a page of a stranger can
    have its name resolved to that address (DNS rebinding), and then the browser takes the service
    for a part of it. The header `Host` gives that away.

    Args:
        hosts: names that may be asked for; None: any, for a service that others reach.
        route_of: from a path to what it is counted under.
    """

    def __init__(
        self,
        app: Any,
        hosts: tuple[str, ...] | None,
        measures: Measures,
        route_of: Callable[[str], str],
    ):
        self._app, self._hosts, self._measures, self._route_of = app, hosts, measures, route_of

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        route, start, code = self._route_of(scope["path"]), time.perf_counter(), 500

        async def answer(message: dict) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                own = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        try:
            await self._checked(scope)(scope, receive, answer)
        finally:
            self._measures.requests.labels(route, str(code)).inc()
            self._measures.seconds.labels(route).observe(time.perf_counter() - start)

    def _checked(self, scope: dict) -> Callable:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if self._hosts is None or _without_port(host) in self._hosts:
            return self._app
        allowed = ", ".join(self._hosts)
        return error(f"host: is not served here. Allowed: {allowed}", 400)


def _without_port(host: str) -> str:
    if host.startswith("["):  # an IPv6 address
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def error(message: str, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an answer that says what is wrong, as TensorFlow Serving does."""
    return JSONResponse({"error": message}, status, headers)


class Bodies:
    """Reads bodies of requests into memory, within limits; nothing is written to the disk.

    Attributes:
        held: bytes of all bodies that are read or answered now.
    """

    def __init__(self, limits: Limits):
        self._limits, self.held = limits, 0

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body of a request, counted as held until the end.

        Raises:
            Refused: it is too large, or takes too long.
            Busy: all together are too large.
        """
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    whole = await self._read(request, parts)
            except TimeoutError:
                message = f"the body did not arrive within {BODY_SECONDS:.0f} s"
                raise Refused(message, 408) from None
            if not whole:
                raise Refused(f"the body is too large. Allowed: {self._limits.megabytes} MB", 413)
            yield b"".join(parts)
        finally:
            self.held -= sum(map(len, parts))

    async def _read(self, request: Request, parts: list[bytes]) -> bool:
        """Fill `parts`; return whether the body is within the limit.

        One that is not is read on and dropped: were the connection closed on a client that is still
        sending, it would not get to read why.
        """
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._limits.body:
                self.held -= sum(map(len, parts))
                parts.clear()
                continue
            if self.held + len(chunk) > self._limits.held:
                raise Busy
            parts.append(chunk)
            self.held += len(chunk)
        return size <= self._limits.body
