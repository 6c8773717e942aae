"""A Chromium without a window, driven through its DevTools protocol over a pair of pipes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run")
IN, OUT = 3, 4
"""What Chromium reads from and writes to (`--remote-debugging-pipe`)."""


class Browser:
    """One page of a browser.

    Example:
        with Browser("chromium") as browser:
            browser.open("http://127.0.0.1:8501/")
    """

    def __init__(self, program: str):
        self._stack = contextlib.ExitStack()
        profile = self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        there, self._writes = os.pipe()
        self._reads, back = os.pipe()
        # Above the two numbers that they have to become: else one could be overwritten.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (there, back)]

        def given() -> None:
            os.dup2(high[0], IN)
            os.dup2(high[1], OUT)

        self._process = subprocess.Popen(
            [program, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            preexec_fn=given,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (there, back, *high):
            os.close(end)
        self._number, self._buffer, self._events = 0, b"", []
        self._session: dict[str, str] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._writes)
        os.close(self._reads)
        self._stack.close()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol; return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while (found := self._next()).get("id") != self._number:
            self._events.append(found)
        assert "error" not in found, found
        return found["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._reads, 65536)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Open a page and wait until it has started."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for part in ("Page", "Runtime", "Log"):
            self.call(f"{part}.enable")
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **sizes)
        self.call("Page.navigate", url=address)
        self.wait("document.getElementById('limits') && limits.textContent")

    def drop(self, file: Path, heading: str) -> None:
        """Drop a file on the middle of what has a heading that begins so."""
        self.wait(f"document.querySelector('h2').textContent.startsWith('{heading}')")
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=400, y=200, data=data)

    def run(self, code: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.call(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, code: str, seconds: float = 30) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({code})"):
            assert time.monotonic() < end, code
            time.sleep(0.05)

    def problems(self) -> list[dict[str, Any]]:
        """Return errors that the page has met, violations of its policy too."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown")
        return [event for event in self._events if event.get("method") in kinds]
