"""The addresses of a service."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tlkit.backbones.sides import sides
from tlkit.data.mask_colours import palette
from tlkit.serving.batching import Full
from tlkit.serving.guard import Bodies, Busy, Guard, error
from tlkit.serving.images import Ready
from tlkit.serving.limits import RETRY_SECONDS
from tlkit.serving.model import Answer, described
from tlkit.serving.rest import Refused, read, signatures
from tlkit.serving.rest_answer import metadata, status
from tlkit.serving.service import Service
from tlkit.serving.upload import extras_of, files_of, predictions

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

PREDICT = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:(classify|regress|predict)",
    re.IGNORECASE,
)
STATUS = re.compile(
    r"/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?", re.IGNORECASE
)
"""As TensorFlow Serving has them (http_rest_api_handler.cc)."""

KINDS = {"classify": "classification", "regress": "regression"}


def route_of(path: str) -> str:
    """Return what a path is counted under: few names, whatever is asked for."""
    if path in PAGE:
        return "page"
    if path in ("/predict", "/about", "/healthz", "/readyz", "/metrics"):
        return path[1:]
    return "rest" if path.startswith("/v1/") else "other"


def application(service: Service, hosts: tuple[str, ...] | None) -> Guard:
    """Return the ASGI application of a service.

    Args:
        hosts: see `Guard`.
    """
    handlers = Handlers(service)
    files = resources.files("tlkit.serving") / "page"
    pages = [
        Route(path, _fixed((files / name).read_bytes(), kind), methods=["GET"])
        for path, (name, kind) in PAGE.items()
    ]
    routes = [
        *pages,
        Route("/about", handlers.about, methods=["GET"]),
        Route("/predict", handlers.predict, methods=["POST"]),
        Route("/healthz", handlers.health, methods=["GET"]),
        Route("/readyz", handlers.readiness, methods=["GET"]),
        Route("/metrics", handlers.metrics, methods=["GET"]),
        Route("/v1/{rest:path}", handlers.rest, methods=list(METHODS)),
    ]
    refusals = {Refused: _refused, Full: _full, Busy: _full, HTTPException: _http}
    app = Starlette(routes=routes, exception_handlers={**refusals, ClientDisconnect: _gone})
    app.add_exception_handler(Exception, _bug)
    return Guard(app, hosts, service.measures, route_of)


SHOWN_LIMITS = ("megabytes", "megapixels", "images")
"""Of `Limits`: those that who uploads has to know."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Handlers:
    """What answers each address."""

    def __init__(self, service: Service):
        self._service, self._served = service, service.served
        self._bodies = Bodies(service.limits)
        self._signatures = signatures(service.served.size)
        self._outputs = output_shapes(service)
        limits, count = service.limits, len(service.served.task.outputs)
        self._about = {
            **described(service.served),
            "colours": ["#{:02x}{:02x}{:02x}".format(*c) for c in palette()[:count].tolist()],
            "limits": {name: getattr(limits, name) for name in SHOWN_LIMITS},
        }

    async def about(self, request: Request) -> Response:
        """Say what is served, for the page."""
        return JSONResponse(self._about)

    async def health(self, request: Request) -> Response:
        """Say that the process answers."""
        return JSONResponse({"status": "ok"})

    async def readiness(self, request: Request) -> Response:
        """Say whether requests are welcome: the warm-up was right, and no stop was asked for."""
        if self._service.ready:
            return JSONResponse({"status": "ready"})
        return error("is being stopped", 503)

    async def metrics(self, request: Request) -> Response:
        """Give the counters."""
        text = "text/plain; version=0.0.4; charset=utf-8"
        return Response(self._service.measures.written(), media_type=text)

    async def predict(self, request: Request) -> Response:
        """Answer uploaded files; 400 if none of them can be used."""
        extras = extras_of(request.query_params, self._service)
        async with self._bodies.of(request) as body:
            kind, most = request.headers.get("content-type", ""), self._service.limits.images
            files = await files_of(kind, body, most)
            rows = await predictions(self._service, files, extras)
        if all(row["error"] for row in rows):
            first = f"{rows[0]['path']}: {rows[0]['error']}"
            if len(rows) > 1:
                first = f"none of the {len(rows)} files could be used. The first, {first}"
            return JSONResponse({"error": first, "predictions": rows}, 400)
        return JSONResponse(rows)

    async def rest(self, request: Request) -> Response:
        """Answer as TensorFlow Serving's REST does."""
        path, service = request.scope["path"], self._service
        if request.method == "POST" and (found := PREDICT.fullmatch(path)):
            name, version, label, method = found.groups()
            async with self._bodies.of(request) as body:
                self._check_model(name, version, label)
                if (method := method.lower()) != "predict":
                    raise Refused(
                        f"Expected {KINDS[method]} signature method_name to be tensorflow/serving/"
                        f"{method}. Was: tensorflow/serving/predict"
                    )
                asked = await service.in_thread(read, body, self._signatures)
                content = await service.rest(asked)
            return Response(content, media_type="application/json")
        if request.method == "GET" and (found := STATUS.fullmatch(path)):
            return JSONResponse(await self._status(*found.groups()))
        raise Refused(f"Malformed request: {request.method} {path}")

    async def _status(
        self, name: str | None, version: str | None, label: str | None, described: str | None
    ) -> dict[str, Any]:
        if not name:
            raise Refused("Missing model name in request.")
        served = self._served
        if described:
            self._check_model(name, version, label)
            return metadata(served.name, served.version, self._signatures, self._outputs)
        if name != served.name:
            raise Refused(f"Could not find any versions of model {name}", 404)
        if label is not None:
            raise Refused(f"Unrecognized servable version label: {label}")
        if _number(version) not in (None, served.version):
            raise Refused(f"Could not find version {version} of model {name}", 404)
        return status(served.version)

    def _check_model(self, name: str, version: str | None, label: str | None) -> None:
        served = self._served
        if label is not None:
            raise Refused(f"Unrecognized servable version label: {label}")
        if name == served.name and _number(version) in (None, served.version):
            return
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise Refused(f"Servable not found for request: {asked}", 404)


def _number(version: str | None) -> int | None:
    if version is not None and len(version) > 18:  # it has to fit into 64 bits
        raise Refused(f"Failed to convert version: {version[:40]} to numeric.")
    return None if version is None else int(version)


def output_shapes(service: Service) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of each output of a signature; -1 where it follows number or size of
    images."""
    served = service.served
    answer = Answer(served.outputs(np.zeros((1, *sides(served.size), 3), np.float32))[0])

    def outputs(count: int, height: int, width: int) -> dict[str, np.ndarray]:
        return service.outputs([(Ready(answer.row, height, width), answer)] * count)

    some, others = outputs(1, 5, 7), outputs(2, 6, 8)
    kinds = {"O": "DT_STRING", "b": "DT_BOOL", "f": "DT_FLOAT"}
    return {
        name: (
            kinds.get(x.dtype.kind) or f"DT_{x.dtype.name.upper()}",
            tuple(a if a == b else -1 for a, b in zip(x.shape, others[name].shape, strict=True)),
        )
        for name, x in some.items()
    }


def _fixed(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


async def _refused(request: Request, problem: Refused) -> Response:
    return error(str(problem), problem.status)


async def _full(request: Request, problem: Exception) -> Response:
    waits = {"retry-after": str(RETRY_SECONDS)}
    return error("too many images at a time: try again later", 503, waits)


async def _http(request: Request, problem: HTTPException) -> Response:
    text = {404: "is not served here", 405: "is not asked for so"}.get(problem.status_code)
    said = f"{request.method} {request.scope['path']}: {text or problem.detail}"
    return error(said, problem.status_code, problem.headers)


async def _gone(request: Request, problem: ClientDisconnect) -> Response:
    return error("the client has gone", 400)  # which nobody reads


async def _bug(request: Request, problem: Exception) -> Response:
    return error("internal error", 500)
