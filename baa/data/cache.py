"""Decoded radiographs on disk: square, grey, 8 bit, at full and half the side, memory-mapped, built once in parallel."""

import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import PIL.Image
from filelock import FileLock

from baa.data.cases import Case, Image, Problem
from baa.data.radiograph import Radiograph
from baa.errors import InputError
from baa.nets.view import whole_factor

FORMAT = 7
"""Counted up whenever the same file would become other pixels."""

AGAIN_SECONDS = 600.0
"""After which an image that could not be read is tried again."""

FEATURES = datasets.Features(
    {
        "pixels": datasets.Value("large_binary"),
        "halved": datasets.Value("large_binary"),
        "width": datasets.Value("int32"),
        "height": datasets.Value("int32"),
        "inverted": datasets.Value("bool"),
        "error": datasets.Value("string"),
    }
)


class Radiographs(NamedTuple):
    """Cases and, row by row, their pixels.

    `row[i]` is where case i lies in `table`, `column` what pixels of it are read, of side `px`; `key` is the cache's, the same
    for the same images; `inverted` names the negatives that were turned.
    """

    cases: list[Case]
    row: list[int]
    table: datasets.Dataset
    key: str
    px: int
    problems: list[Problem]
    inverted: list[str]
    column: str = "pixels"

    def for_views(self, px: int) -> "Radiographs":
        """The same radiographs at half the side, a quarter of the bytes, if a view of `px` would average such blocks anyway."""
        if self.column == "halved" or whole_factor(self.px, px) % 2:
            return self
        return self._replace(px=self.px // 2, column="halved")

    def pixels(self, index: int) -> np.ndarray:
        """Source pixels of a case, uint8 [px, px], read-only."""
        pixels = self.table.data.column(self.column)[self.row[index]].as_buffer()  # not a copy, as the table's rows would be
        return np.frombuffer(pixels, np.uint8).reshape(self.px, self.px)

    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of each case's file."""
        widths, heights = self.table["width"][:], self.table["height"][:]
        return [(widths[row], heights[row]) for row in self.row]

    def keep(self, kept: Sequence[bool]) -> "Radiographs":
        """Only some of the cases."""
        chosen = [i for i, keep in enumerate(kept) if keep]
        return self._replace(cases=[self.cases[i] for i in chosen], row=[self.row[i] for i in chosen])


def open_cache(cases: Sequence[Case], *, folder: Path, px: int, workers: int) -> Radiographs:
    """Decode every case's image, or map what an earlier run decoded.

    The key is the images' own bytes (size, head and tail), their order and `px`; labels are no part of it. The cache is
    built in a folder of its own and renamed when whole, under a lock: a killed build leaves nothing that a later run
    would believe, and of many processes one builds. What could not be read ten minutes ago or earlier is tried again.

    Args:
        cases: any number, ids unique.
        folder: where caches lie.
        px: side of the square source.
        workers: processes that decode.

    Returns:
        The readable cases; the unreadable are in `problems`.

    Raises:
        InputError: no case at all, or the folder cannot be written.
    """
    if not cases:
        raise InputError("data: not one usable case in this source")
    key = _key(cases, px)
    target = folder / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            if target.is_dir() and _readable_by_now(cases, target, px):
                target.rename(_building(target, os.getpid()))
            if not target.is_dir():
                _build(cases, target, px, workers)
    except OSError as error:
        raise InputError(f"data.cache: {folder} cannot be written ({error.strerror or error}); give another folder") from error
    table = _open(target)
    errors, inverted = table["error"][:], table["inverted"][:]
    good = [row for row, error in enumerate(errors) if not error]
    return Radiographs(
        cases=[cases[row] for row in good],
        row=good,
        table=table,
        key=key,
        px=px,
        problems=[Problem(cases[row].id, cases[row].image.name, error) for row, error in enumerate(errors) if error],
        inverted=[cases[row].id for row in good if inverted[row]],
    )


def _open(folder: Path) -> datasets.Dataset:
    files = sorted(folder.glob("*.arrow"))
    return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])


def _readable_by_now(cases: Sequence[Case], target: Path, px: int) -> bool:
    """Whether an image that had an error has none any more: a disk that answers again, a codec that was installed.

    Not at once again, so that all processes of a job read the same cases.
    """
    failed = [case.image for case, error in zip(cases, _open(target)["error"][:], strict=True) if error]
    if not failed or time.time() - target.stat().st_mtime < AGAIN_SECONDS:
        return False
    os.utime(target)
    return any(not _decode_row({"case": i}, failed, px)["error"] for i in range(len(failed)))


def _key(cases: Sequence[Case], px: int) -> str:
    digest = hashlib.blake2b(f"{FORMAT}:{px}".encode(), digest_size=12)
    for case in cases:
        try:
            digest.update(case.image.fingerprint())
        except OSError:  # it will be a row with its reason
            digest.update(b"unreadable")
    return digest.hexdigest()


def _building(target: Path, process: int | str) -> Path:
    return target.with_name(f"{target.name}.building-{process}")


def _build(cases: Sequence[Case], target: Path, px: int, workers: int) -> None:
    for left in target.parent.glob(_building(target, "*").name):
        shutil.rmtree(left)  # the lock is ours: whoever left it is dead
    building = _building(target, os.getpid())
    building.mkdir()
    rows = datasets.Dataset.from_dict({"case": list(range(len(cases)))})
    rows.map(
        _decode_row,
        fn_kwargs={"images": [case.image for case in cases], "px": px},
        num_proc=min(workers, len(cases)) if workers > 1 else None,
        remove_columns=["case"],
        features=FEATURES,
        writer_batch_size=64,
        cache_file_name=str(building / "radiographs.arrow"),
        new_fingerprint=target.name,
        desc=f"decoding radiographs at {px} px",
    )
    building.rename(target)


def _decode_row(row: Mapping[str, int], images: Sequence[Image], px: int) -> dict[str, Any]:
    try:
        radiograph: Radiograph = images[row["case"]].load(px)
    except (InputError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return {"pixels": b"", "halved": b"", "width": 0, "height": 0, "inverted": False, "error": reason or str(error)}
    return {
        "pixels": radiograph.pixels.tobytes(),
        "halved": PIL.Image.fromarray(radiograph.pixels).reduce(2).tobytes(),
        "width": radiograph.width,
        "height": radiograph.height,
        "inverted": radiograph.inverted,
        "error": "",
    }
