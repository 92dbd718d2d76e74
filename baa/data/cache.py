"""The cache of decoded radiographs: square, 8 bit gray, at full and half the side, memory-mapped, built once in parallel."""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import PIL.Image
import pyarrow.compute as pc
from filelock import FileLock

from baa.data.cases import Case, Image, Problem
from baa.data.read.process import close_decoders
from baa.data.read.radiograph import Frame, Radiograph
from baa.errors import InputError
from baa.nets.view import whole_factor

FORMAT = 11
"""Part of the cache's key. Increase it whenever the same file decodes to other pixels."""

BATCH = 64
"""Radiographs that are decoded before they are written."""

RETRY_SECONDS = 600.0
"""Time after which an image that could not be read is tried again."""

FEATURES = datasets.Features(
    {
        "pixels": datasets.Value("large_binary"),
        "halved": datasets.Value("large_binary"),
        "width": datasets.Value("int32"),
        "height": datasets.Value("int32"),
        "frame": datasets.List(datasets.Value("float32"), 3),
        "inverted": datasets.Value("bool"),
        "error": datasets.Value("string"),
    }
)


class Radiographs(NamedTuple):
    """Cases and their pixels.

    cases: the readable ones.
    row: the row of each case in `table`.
    table: the memory-mapped cache, with features `FEATURES`.
    key: of the cache; the same for the same images in the same order.
    px: side of the pixels in `column`.
    problems: of the images that could not be read.
    inverted: ids of negatives, whose levels have been inverted.
    digests: per row of `table`; changes with the image file, `px` and `FORMAT`.
    column: `pixels`, or `halved` for half the side.
    """

    cases: list[Case]
    row: list[int]
    table: datasets.Dataset
    key: str
    px: int
    problems: list[Problem]
    inverted: list[str]
    digests: list[str]
    column: str = "pixels"

    def for_views(self, px: int) -> "Radiographs":
        """Use the pixels at half the side, a quarter of the bytes, if a view of `px` averages 2 x 2 blocks anyway."""
        return self if whole_factor(self.px, px) % 2 else self.half_size()

    def half_size(self) -> "Radiographs":
        """Use the pixels at half the side, if that is a whole number."""
        return self if self.column == "halved" or self.px % 2 else self._replace(px=self.px // 2, column="halved")

    def pixels(self, index: int) -> np.ndarray:
        """The pixels of a case, uint8 [px, px], read-only."""
        pixels = self.table.data.column(self.column)[self.row[index]].as_buffer()  # no copy, unlike table[row]
        return np.frombuffer(pixels, np.uint8).reshape(self.px, self.px)

    def digest(self, index: int) -> str:
        """The digest of a case's image."""
        return self.digests[self.row[index]]

    def sizes(self) -> list[tuple[int, int]]:
        """(width, height) of each case's image file."""
        widths, heights = self.table["width"][:], self.table["height"][:]
        return [(widths[row], heights[row]) for row in self.row]

    def frames(self) -> list[Frame]:
        """Where each case's square lies in its image file."""
        frames = self.table["frame"][:]
        return [Frame(*frames[row]) for row in self.row]

    def keep(self, kept: Sequence[bool]) -> "Radiographs":
        """Select the cases whose entry in `kept`, one per case, is true."""
        chosen = [i for i, keep in enumerate(kept) if keep]
        return self._replace(cases=[self.cases[i] for i in chosen], row=[self.row[i] for i in chosen])


def open_cache(cases: Sequence[Case], *, folder: Path, px: int, workers: int) -> Radiographs:
    """Decode the images of all cases, or map what an earlier run decoded.

    The key is a digest of the images' fingerprints, their order and `px`, not of labels. A lock lets one process build while
    the others wait. It builds in a temporary folder and renames that at the end, so a killed build is never used. A damaged
    cache is built again. Images that could not be read are tried again after `RETRY_SECONDS`.

    Args:
        cases: at least one, with unique ids.
        folder: parent folder of all caches.
        px: side of the square source.
        workers: number of threads, each with a decoding process.

    Returns:
        The readable cases. The others are in `problems`.

    Raises:
        InputError: there are no cases, or the folder cannot be written.
    """
    if not cases:
        raise InputError("data: the source has no usable case; check data.source and the files it reads")
    key, digests = _key(cases, px)
    target = folder / key
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            table = _open(target, len(cases), px) if target.is_dir() else None
            if table is None or _readable_now(cases, table, target, px):
                _build(cases, target, px, workers)
                table = _open(target, len(cases), px)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"data.cache: {folder}: {reason}; free disk space, check permissions, or give another folder"
        ) from error
    assert table is not None
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
        digests=digests,
    )


def _open(folder: Path, rows: int, px: int) -> datasets.Dataset | None:
    """Map a cache. None, and a line in the log, if it is damaged: a file is missing, empty, cut short or altered.

    Raises:
        OSError: the disk cannot be read.
    """
    try:
        files = sorted(folder.glob("*.arrow"))
        table = datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])
        table.data.validate(full=True)
        good = np.array([not error for error in table["error"][:]])
        bytes_of = {"pixels": px**2, "halved": ((px + 1) // 2) ** 2}
        if len(good) == rows and all(
            np.array_equal(pc.binary_length(table.data.column(name)).to_numpy(), good * size) for name, size in bytes_of.items()
        ):
            return table
    except Exception as error:  # Arrow and datasets raise anything for damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
    logging.getLogger("lightning.pytorch").info(f"data.cache: {folder} is damaged; it is built again")  # whichever the rank
    return None


def _readable_now(cases: Sequence[Case], table: datasets.Dataset, target: Path, px: int) -> bool:
    """Whether an image that failed before can be read now: a disk is back, a codec was installed.

    The answer is no within `RETRY_SECONDS` of the last try, so that all processes of a job get the same cases.
    """
    failed = [case.image for case, error in zip(cases, table["error"][:], strict=True) if error]
    if not failed or time.time() - target.stat().st_mtime < RETRY_SECONDS:
        return False
    os.utime(target)
    return any(not _decode_row(image, px)["error"] for image in failed)


def _key(cases: Sequence[Case], px: int) -> tuple[str, list[str]]:
    """The key of the cache, and the digest of each image."""
    form = f"{FORMAT}:{px}".encode()
    whole, digests = hashlib.blake2b(form, digest_size=12), []
    for case in cases:
        try:
            fingerprint = case.image.fingerprint()
        except OSError:  # decoding will report the reason
            fingerprint = b"unreadable"
        whole.update(fingerprint)
        digests.append(hashlib.blake2b(form + fingerprint, digest_size=8).hexdigest())
    return whole.hexdigest(), digests


def _building_folder(target: Path, process: int | str) -> Path:
    return target.with_name(f"{target.name}.building-{process}")


def _build(cases: Sequence[Case], target: Path, px: int, workers: int) -> None:
    for stale in target.parent.glob(_building_folder(target, "*").name):
        shutil.rmtree(stale)  # this process holds the lock, so its builder is dead
    if target.exists():
        shutil.rmtree(target.rename(_building_folder(target, "former")))
    building = _building_folder(target, os.getpid())
    building.mkdir()
    rows = datasets.Dataset.from_dict({"case": list(range(len(cases)))})
    pool = ThreadPoolExecutor(max(1, min(workers, len(cases))))

    def decode(batch: Mapping[str, list[int]]) -> dict[str, list[Any]]:
        decoded = list(pool.map(partial(_decode_row, px=px), (cases[i].image for i in batch["case"])))
        return {name: [row[name] for row in decoded] for name in FEATURES}

    try:
        rows.map(
            decode,
            batched=True,
            batch_size=BATCH,
            remove_columns=["case"],
            features=FEATURES,
            writer_batch_size=BATCH,
            cache_file_name=str(building / "radiographs.arrow"),
            new_fingerprint=target.name,
            desc=f"decoding radiographs at {px} px",
        )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        close_decoders()  # an interrupt waits for none
    building.rename(target)


def _decode_row(image: Image, px: int) -> dict[str, Any]:
    try:
        radiograph: Radiograph = image.load(px)
    except (InputError, OSError) as error:
        return _failed_row((error.strerror if isinstance(error, OSError) else None) or str(error))
    except Exception as error:  # one file must not end the others; the text might quote a patient's data
        return _failed_row(f"could not be read: unexpected {type(error).__name__}")
    return {
        "pixels": radiograph.pixels.tobytes(),
        "halved": PIL.Image.fromarray(radiograph.pixels).reduce(2).tobytes(),
        "width": radiograph.width,
        "height": radiograph.height,
        "frame": list(radiograph.frame),
        "inverted": radiograph.inverted,
        "error": "",
    }


def _failed_row(reason: str) -> dict[str, Any]:
    empty = {"pixels": b"", "halved": b"", "width": 0, "height": 0, "frame": [0.0] * 3, "inverted": False}
    return empty | {"error": reason}
