"""Memory: how much is free, whether an error says that there is none left, and smaller batches."""

from __future__ import annotations

import contextlib
import errno
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from tlkit.errors import OutOfMemoryError, TlkitError

T = TypeVar("T")

SAID = (
    "OOM when allocating",  # TensorFlow's kernels
    "ResourceExhaustedError",  # the same, told by a pipeline in an error of its own
    "RESOURCE_EXHAUSTED",  # JAX and XLA
    "bad_alloc",  # C++, OpenVINO and ONNX Runtime among it
    "bad allocation",
    "Failed to allocate memory",  # ONNX Runtime, XLA
    "Unable to allocate",  # NumPy
    "Cannot allocate memory",  # the system
    "Status: 1, message: could not",  # oneDNN: 1 is `dnnl_out_of_memory`
    "CUDA_ERROR_OUT_OF_MEMORY",
    "_STATUS_ALLOC_FAILED",  # cuDNN and cuBLAS
    "out of memory",
)
"""What is in the messages of libraries that cannot get memory."""

OTHERS = ("No space left on device", "Disk quota exceeded", "Too many open files")
"""What TensorFlow calls an exhausted resource as well: it maps these of the system's errors to the
same class (`tsl/platform/errors.cc`, `ErrnoToCode`)."""

NOT_READ = (ValueError, TypeError, LookupError, AttributeError, OSError)
"""Errors whose message is not read: it may hold names of files, classes, whatever users write."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that caused it, says that memory has run out."""
    while error is not None and not isinstance(error, TlkitError):
        text = str(error)
        if any(words in text for words in OTHERS):
            return False
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if type(error).__name__ == "ResourceExhaustedError":
            return True
        if not isinstance(error, NOT_READ) and any(words in text for words in SAID):
            return True
        error = error.__cause__ or error.__context__
    return False


def halving(call: Callable[[int], T], size: int, what: str, say: Callable[[str], None]) -> T:
    """Return `call(size)`; where memory runs out, of half the size, and so on until 1.

    It is for what does not depend on the size of its batches: features, answers, measures.

    Args:
        size: images that are computed at a time.
        what: is done, for the message.
        say: is told each smaller size.

    Raises:
        OutOfMemoryError: not even one image fits.
    """
    while True:
        try:
            return call(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if size <= 1:
                raise OutOfMemoryError(
                    f"{what}: out of memory with 1 image at a time. Free some, or choose a smaller "
                    "--image-size or backbone"
                ) from error
        # Outside the handler: until then the error holds what the frames of `call` hold.
        gc.collect()
        say(f"{what}: out of memory with {size} images at a time: goes on with {size // 2}")
        size //= 2


def free_bytes(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may still take; None where the system does not tell.

    The least of what the machine has available, what its control groups leave (both versions;
    file pages that can be dropped count as free), and what a limit on the address space leaves.

    Args:
        root: where `proc` and `sys` lie.
    """
    found = [_available(root), *_groups(root), _address_space(root)]
    return min((each for each in found if each is not None), default=None)


def resident_bytes(root: Path = Path("/")) -> int:
    """Return the bytes that this process holds now; 0 where the system does not tell."""
    return _status(root).get("VmRSS", 0)


def _status(root: Path) -> dict[str, int]:
    return _kilobytes(root / "proc/self/status")


def _kilobytes(path: Path) -> dict[str, int]:
    """Return the amounts in lines such as `MemAvailable:  1024 kB`, in bytes."""
    found = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _, rest = line.partition(":")
            words = rest.split()
            if len(words) == 2 and words[1] == "kB" and words[0].isdigit():
                found[name] = 1024 * int(words[0])
    return found


def _available(root: Path) -> int | None:
    return _kilobytes(root / "proc/meminfo").get("MemAvailable")


def _address_space(root: Path) -> int | None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    taken = _status(root).get("VmSize")
    return None if limit == resource.RLIM_INFINITY or taken is None else max(0, limit - taken)


GROUP_FILES = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}
"""By controller in /proc/self/cgroup: where groups lie, files of limit and use, and what of
memory.stat can be dropped. Version 2 has one tree and no names
(https://docs.kernel.org/admin-guide/cgroup-v2.html#memory, .../cgroup-v1/memory.html)."""


def _groups(root: Path) -> Iterator[int]:
    """Yield what is left in each control group that this process is in, those above included."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for name in {"", "memory"}.intersection(controllers.split(",")):
            tree, limit, used, droppable = GROUP_FILES[name]
            base = root / tree
            # In a container the path may be one of the host's, which is not there.
            group = base / path.lstrip("/")
            for folder in (group, *group.parents):
                if not folder.is_relative_to(base):
                    break
                most, taken = _number(folder / limit), _number(folder / used)
                if most is not None and taken is not None:
                    yield max(0, most - taken + _stat(folder / "memory.stat", droppable))


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # "max"
        return int(path.read_text(encoding="ascii"))
    return None


def _stat(path: Path, name: str) -> int:
    with contextlib.suppress(OSError, ValueError, UnicodeDecodeError):
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0
