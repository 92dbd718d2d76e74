"""The page's temporary folder: uploads and downloads, deleted in time, and after the page has died."""

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "baa_page_"
LOCK, FILES = "lock", "files"

KEPT_SECONDS = 1800
"""Age at which downloads, and uploads that nobody asked to be read, are deleted."""

SWEEP_SECONDS = 60
LEAST_BYTES = 64 << 10
"""The least that a file counts, so that the number of files is bounded too."""


@contextlib.contextmanager
def page_folder() -> Iterator[Path]:
    """Make a folder that only this user can read, and delete it at the end. Delete those of pages that were killed before.

    A page holds a lock in its folder. The system releases the lock when the process dies, in whatever way.
    """
    _delete_abandoned()
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = FileLock(folder / LOCK)
        with contextlib.suppress(OSError):
            lock.acquire()
        if (folder / LOCK).exists():  # else another page, started at this moment, took it for abandoned
            break
    try:
        (folder / FILES).mkdir()
        yield folder / FILES
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _delete_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, Timeout):  # another user's, or in use
            if folder.is_symlink():
                continue
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def stored_bytes(folder: Path) -> int:
    """Sum the sizes of all files in and below a folder."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            total += max(LEAST_BYTES, file.lstat().st_size)
    return total


def delete_older(folder: Path, before: float) -> None:
    """Delete the files in and below a folder that were last changed before a time, and folders that are then empty."""
    for path in sorted(folder.rglob("*"), reverse=True):  # files before their folder
        with contextlib.suppress(OSError):  # in use, or deleted meanwhile
            if path.is_dir() and not path.is_symlink():
                if path.lstat().st_ctime < before:
                    path.rmdir()
            elif path.lstat().st_ctime < before:
                path.unlink()


def start_sweeping(folder: Path) -> None:
    """Delete old files from now on, in the background, until the process ends."""

    def sweep() -> None:
        while True:
            time.sleep(SWEEP_SECONDS)
            delete_older(folder, time.time() - KEPT_SECONDS)

    threading.Thread(target=sweep, daemon=True).start()
