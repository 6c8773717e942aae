"""Peak anonymous memory of a process and its children, sampled from /proc (Linux).

RssAnon counts what a process holds for itself; mapped files, such as the feature cache, are pages
of the system's cache, which it can take back, and are not in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

INTERVAL = 0.05
"""Seconds between two samples: a peak shorter than this may be missed."""


def anonymous_bytes(pid: int) -> int:
    """Return RssAnon of a process and of all below it; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    own = 1024 * int(lines.get("RssAnon", "0 kB").split()[0])
    return own + sum(anonymous_bytes(int(child)) for child in children)


def peak_of(command: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[int, float]:
    """Run a command; return its peak of anonymous memory in bytes, and its seconds.

    A failure of the command ends the calling program with what it said.
    """
    start, peak = time.monotonic(), 0
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            list(command), env=dict(env or os.environ), stdout=said, stderr=said
        )
        while process.poll() is None:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(INTERVAL)
        seconds = time.monotonic() - start
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)}: failed\n{said.read()[-3000:].decode()}")
    return peak, seconds
