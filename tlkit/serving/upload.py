"""Uploaded image files: a form in, predictions out as `tlkit predict --json` prints them."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from tlkit.data.mask_colours import palette
from tlkit.errors import printable
from tlkit.reporting.saliency import over_image
from tlkit.serving.images import Unusable
from tlkit.serving.rest import Refused
from tlkit.serving.service import Answered, Service

EXTRAS = ("maps", "masks")
"""What may be asked for beside the answer, as `?maps=true`."""


class _InMemory(MultiPartParser):
    spool_max_size = 0  # of a file above which it goes to the disk; 0: none does


async def files_of(content_type: str, body: bytes, most: int) -> list[tuple[str, bytes]]:
    """Return name and content of each file of a form.

    Raises:
        Refused: it is none, has no files or too many, or something beside them.
    """
    if not content_type.startswith("multipart/form-data"):
        raise Refused(
            "expected one or more image files as multipart/form-data, such as: "
            f"curl -F image=@photo.jpg. Received: {printable(content_type[:100]) or 'no type'}"
        )

    async def whole() -> AsyncIterator[bytes]:
        yield body

    try:
        headers = Headers({"content-type": content_type})
        form = await _InMemory(headers, whole(), max_files=most, max_fields=most).parse()
    except (MultiPartException, KeyError, UnicodeError, ValueError) as error:
        raise Refused(f"the form cannot be read: {printable(str(error))[:200]}") from None
    files = []
    for field, value in form.multi_items():
        if not isinstance(value, UploadFile):
            raise Refused(
                f"{printable(field[:100])}: is no file. Allowed: image files alone; what else is "
                "asked for stands in the address, as in /predict?maps=true"
            )
        files.append((printable(value.filename or "image"), await value.read()))
    if not files:
        raise Refused("no image file in the form, such as: curl -F image=@photo.jpg")
    return files


def extras_of(query: Mapping[str, str], service: Service) -> dict[str, bool]:
    """Return what is asked for beside the answers.

    Raises:
        Refused: there is no such thing, or not of this model.
    """
    served = service.served
    why_not = {
        "maps": served.why_no_maps,
        "masks": "" if served.task.maps else f"the task {served.task.name} answers with no mask",
    }
    for name, value in query.items():
        if name not in EXTRAS:
            raise Refused(f"{printable(name[:100])}: unknown. Allowed: {', '.join(EXTRAS)}")
        if value not in ("true", "false"):
            raise Refused(f"{name}: Allowed: true or false. Received: {printable(value[:100])}")
        if value == "true" and why_not[name]:
            raise Refused(f"{name}: {why_not[name]}")
    return {name: query.get(name) == "true" for name in EXTRAS}


async def predictions(
    service: Service, files: Sequence[tuple[str, bytes]], extras: Mapping[str, bool]
) -> list[dict[str, Any]]:
    """Return a prediction for each file, in order; see `Run.predict`.

    With `maps` each has `map`, what speaks for the answer: `{"explained": output, "values":
    numbers 0 to 1, (rows, columns), stretched over the image}`. With `masks` each has `mask`, a PNG
    in base64 of the size of the upright original: the value of a pixel is the number of its class.
    """
    makers = [functools.partial(service.decoder.encoded, content) for _, content in files]
    found = await service.answers(makers, extras["maps"])
    makes = [
        service.in_thread(_prediction, service, name, each, extras)
        for (name, _), each in zip(files, found, strict=True)
    ]
    return [await make for make in makes]


def _prediction(
    service: Service, name: str, found: Answered | Unusable, extras: Mapping[str, bool]
) -> dict[str, Any]:
    task = service.served.task
    fields: dict[str, Any] = dict.fromkeys(task.fields)
    asked = {"map": extras["maps"], "mask": extras["masks"]}
    fields |= {key: None for key, wanted in asked.items() if wanted}
    if isinstance(found, Unusable):
        return {"path": name, **fields, "error": str(found)}
    ready, answer = found
    fields |= task.decode(answer.row, ready.height, ready.width)
    if extras["maps"]:
        size, fit, heat = service.served.size, service.served.rendering.fit, answer.heat
        heat = over_image(heat, (ready.height, ready.width), heat.shape, size, fit)
        values = [[round(float(x), 4) for x in row] for row in heat]
        fields["map"] = {"explained": answer.explained, "values": values}
    if extras["masks"]:
        numbers = np.asarray(task.label_map(answer.row, ready.height, ready.width))
        fields["mask"] = _png(numbers)
    return {"path": name, **fields, "error": None}


def _png(numbers: np.ndarray) -> str:
    """Return class numbers uint8 (height, width) as PNG with a palette, in base64."""
    image, file = Image.fromarray(numbers), io.BytesIO()
    image.putpalette(palette().ravel().tolist())
    image.save(file, "PNG", transparency=0)
    return base64.b64encode(file.getvalue()).decode("ascii")
