"""How glibc treats the memory that torch frees. Elsewhere than on glibc none of this does anything."""

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
