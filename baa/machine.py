"""The machine: how many cores this process may use, and how glibc treats the memory that torch frees."""

import ctypes
import os
import sys
from functools import cache

MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_MAX = -1, -4


@cache
def keep_freed_memory() -> None:
    """Let glibc keep what torch frees, for training on a CPU, and give that back before a process is forked.

    By default every large activation is mapped and unmapped anew, and its pages are faulted in each time: that was half
    of a training step of EfficientNet-lite0 at 300 px. But a fork keeps a copy of each page that its parent then writes to:
    two loaders forked beside 7 GiB of used-up activations became 14.
    """
    _call("mallopt", MALLOC_MMAP_MAX, 0)
    _call("mallopt", MALLOC_TRIM_THRESHOLD, -1)  # as a size_t, the largest there is
    if sys.platform == "linux":
        os.register_at_fork(before=lambda: _call("malloc_trim", 0))


def _call(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, function):
            getattr(libc, function)(*arguments)


def usable_cores() -> int:
    """The cores that this process may run on: under Slurm, taskset or a container's cpuset fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
