"""The machine: usable CPU cores, and how glibc treats memory that torch frees."""

import ctypes
import os
import sys
from functools import cache

MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`."""


@cache
def keep_freed_memory() -> None:
    """Let glibc keep the memory that torch frees, for training on a CPU, and return it to the system before a fork.

    By default glibc maps and unmaps every large activation anew, and each time the system faults in its pages: half of a
    training step of EfficientNet-lite0 at 300 px. But a fork copies each page that the parent writes to afterward: two loaders
    forked beside 7 GiB of freed activations doubled them to 14 GiB.
    """
    _call("mallopt", MALLOC_MMAP_MAX, 0)
    _call("mallopt", MALLOC_TRIM_THRESHOLD, -1)  # as a size_t the largest threshold
    if sys.platform == "linux":
        os.register_at_fork(before=lambda: _call("malloc_trim", 0))


def _call(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, function):
            getattr(libc, function)(*arguments)


def usable_cores() -> int:
    """The number of cores that this process may use; Slurm, taskset or a container's cpuset may allow fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
