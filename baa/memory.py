"""How glibc treats the memory that torch frees. Elsewhere than on glibc none of this does anything."""

import ctypes
import sys

MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let glibc keep what torch frees, for training on a CPU.

    By default every large activation is mapped and unmapped anew, and its pages are faulted in each time: that was half
    of a training step of EfficientNet-lite0 at 300 px.
    """
    _call("mallopt", MALLOC_MMAP_MAX, 0)
    _call("mallopt", MALLOC_TRIM_THRESHOLD, -1)  # as a size_t, the largest there is


def give_back_freed_memory() -> None:
    """Return what is free to the system, before loader processes are forked.

    A fork keeps a copy of each page that its parent then writes to: two loaders forked beside 4 GiB of used-up activations
    became 12 GiB, and the copying took a tenth of the time that a small prediction needed.
    """
    _call("malloc_trim", 0)


def _call(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, function):
            getattr(libc, function)(*arguments)
