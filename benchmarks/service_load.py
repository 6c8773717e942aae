"""What `tlkit serve` does under load: many clients at once, with and without batching.

Starts the service twice, with batches and with `--batch-size 1`. Each time a single client asks for
each image in turn, then `--clients` clients ask without pause for `--seconds`, each over a
connection of its own; one that hears 503 waits as `Retry-After` says. The clients come in over the
first two seconds, whose answers count as all others do. An answer is right if it is what the single
client got, within 1e-3. Ratios: the 99th percentile under load over the median of the single
client; images a second under load with batching over those without; anonymous memory at the end
over that when a sixth of the time was over. Clients and service share the machine's cores.

    python benchmarks/service_load.py runs/first images/          # 2 minutes
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import ROOT, parser, report
from images import write_images
from rss import anonymous_bytes

RAMP = 2.0
"""Seconds over which clients come in."""

CLOSE = 1e-3
"""Largest difference of a number from what the single client got."""


@dataclass
class Seen:
    """What the clients saw: seconds of answers (200), other codes, wrong answers."""

    seconds: list[float] = field(default_factory=list)
    codes: dict[int, int] = field(default_factory=dict)
    wrong: int = 0


class Client:
    """One connection to the service."""

    def __init__(self, port: int):
        self._port, self._reader, self._writer = port, None, None

    async def ask(self, content: bytes) -> tuple[int, dict[str, str], bytes]:
        """Upload an image; return code, headers and body."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        boundary = b"x" * 32
        head = b'--%s\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        body = head % boundary + content + b"\r\n--%s--\r\n" % boundary
        self._writer.write(
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; "
            b"boundary=%s\r\nContent-Length: %d\r\n\r\n" % (boundary, len(body)) + body
        )
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        answer = await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), headers, answer

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def numbers(answer: bytes) -> list[float]:
    """Return the numbers of an answer, in order."""
    return [float(x) for x in re.findall(rb"-?\d+\.\d+(?:e-?\d+)?", answer)]


async def single(port: int, images: list[bytes], rounds: int) -> tuple[list[float], list[bytes]]:
    """Return seconds of the answers to one client, and the answers of the last round."""
    client, seconds, answers = Client(port), [], []
    for _ in range(rounds):
        answers = []
        for image in images:
            start = time.perf_counter()
            code, _, answer = await client.ask(image)
            seconds.append(time.perf_counter() - start)
            assert code == 200, answer
            answers.append(answer)
    client.close()
    return seconds, answers


async def many(
    port: int, images: list[bytes], expected: list[bytes], clients: int, seconds: float
) -> Seen:
    """Return what many clients saw."""
    seen, end = Seen(), time.monotonic() + seconds
    known = [numbers(answer) for answer in expected]

    async def one(number: int) -> None:
        client, order = Client(port), random.Random(number)
        await asyncio.sleep(min(RAMP, seconds / 4) * number / clients)
        while time.monotonic() < end:
            i = order.randrange(len(images))
            start = time.perf_counter()
            code, headers, answer = await client.ask(images[i])
            seen.codes[code] = seen.codes.get(code, 0) + 1
            if code == 200:
                seen.seconds.append(time.perf_counter() - start)
                found = numbers(answer)
                close = len(found) == len(known[i]) and all(
                    abs(a - b) <= CLOSE * max(1, abs(b))
                    for a, b in zip(found, known[i], strict=True)
                )
                seen.wrong += not close
            elif "retry-after" in headers:
                await asyncio.sleep(float(headers["retry-after"]) * (0.5 + order.random()))
        client.close()

    await asyncio.gather(*(one(number) for number in range(clients)))
    return seen


def measured(model: str, images: list[bytes], batch: int, options: Any) -> dict[str, Any]:
    """Start the service with batches of up to `batch`, load it, and return the figures."""
    command = [sys.executable, "-m", "tlkit", "serve", model, "--port", "0"]
    service = subprocess.Popen(
        [*command, "--batch-size", str(batch)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        for line in service.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                break
        else:
            sys.exit("the service did not start")
        return asyncio.run(_loaded(service.pid, int(found[1]), images, batch, options))
    finally:
        service.terminate()
        service.communicate()


async def _loaded(
    process: int, port: int, images: list[bytes], batch: int, options: Any
) -> dict[str, Any]:
    alone, expected = await single(port, images, max(2, options.rounds // len(images)))
    alone = alone[len(alone) // 4 :]  # the first make plans and fill caches
    work = asyncio.create_task(many(port, images, expected, options.clients, options.seconds))
    start = time.perf_counter()
    await asyncio.sleep(options.seconds / 6)
    before = anonymous_bytes(process) / 1e6
    seen = await work
    taken = time.perf_counter() - start
    return {
        "batch": batch,
        "single p50 ms": 1000 * statistics.median(alone),
        "images/s": len(seen.seconds) / taken,
        "p50 ms": 1000 * statistics.median(seen.seconds),
        "p99 ms": 1000 * statistics.quantiles(seen.seconds, n=100)[98],
        "200": seen.codes.get(200, 0),
        "503": seen.codes.get(503, 0),
        "others": sum(n for code, n in seen.codes.items() if code not in (200, 503)),
        "wrong": seen.wrong,
        "MB before": before,
        "MB after": anonymous_bytes(process) / 1e6,
    }


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as place:
        if options.smoke:
            options.model, options.images = _tiny(Path(place))
            options.clients, options.seconds, options.rounds = 8, 2.0, 20
        files = sorted(f for f in Path(options.images).rglob("*") if f.is_file())
        step = max(1, len(files) // 32)
        images = [file.read_bytes() for file in files[::step][:32]]
        found = {32: [], 1: []}
        for _ in range(options.repeat):
            for batch, rounds in found.items():
                rounds.append(measured(options.model, images, batch, options))
    # Of each side the round with the median throughput.
    batched, others = rows = [
        sorted(rounds, key=lambda row: row["images/s"])[len(rounds) // 2]
        for rounds in found.values()
    ]
    ratios = {
        "p99 under load / single p50": batched["p99 ms"] / batched["single p50 ms"],
        "images/s, batched / one by one": batched["images/s"] / others["images/s"],
        "memory, end / a sixth of the time": batched["MB after"] / batched["MB before"],
    }
    report(options, rows, ratios)
    if batched["wrong"] or batched["others"]:
        sys.exit("wrong answers, or codes that are neither 200 nor 503")


def _options() -> argparse.Namespace:
    made = parser(__doc__, repeat=1)
    made.add_argument("model", nargs="?", help="a run or an export")
    made.add_argument("images", nargs="?", help="a folder of images")
    made.add_argument("--clients", type=int, default=64)
    made.add_argument("--seconds", type=float, default=30.0)
    made.add_argument("--rounds", type=int, default=200, help="requests of the single client")
    options = made.parse_args()
    if not options.smoke and not options.images:
        made.error("a run or an export, and a folder of images, or --smoke")
    return options


def _tiny(place: Path) -> tuple[str, str]:
    """Return a run of a tiny network on generated images, and these."""
    import tlkit

    write_images(place / "images", 24, 96)
    backbone = {"name": "MobileNet", "weights": "none", "alpha": 0.25}
    fields = {"backbone": backbone, "image_size": 32, "engine": "keras", "regime": "small"}
    tlkit.train(place / "images", out=place / "run", progress=False, **fields)
    return str(place / "run"), str(place / "images")


if __name__ == "__main__":
    main()
