"""Open regular files and nothing else."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from baa.errors import InputError


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Pipes and devices, which may never end, are refused on the opened file.

    Raises:
        InputError: it is no regular file.
        OSError: it cannot be opened.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError("not a regular file; pipes and devices are not read")
        yield file
