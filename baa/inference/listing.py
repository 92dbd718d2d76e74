"""The files that a prediction reads, given by name, folder or pattern, and those that it leaves out."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from baa.atomic_io import write_atomic
from baa.data.read.file import IMAGE_SUFFIXES
from baa.data.read.header import PREAMBLE, is_dicom
from baa.data.regular import open_regular
from baa.errors import InputError
from baa.names import is_mac_attributes, printable, safe_cell, safe_path


class LeftOut(NamedTuple):
    """A file, or a row of a table, that gets no prediction; and the reason."""

    name: str
    reason: str


class Listing(NamedTuple):
    """The files to read, in order, each once; and those that are left out."""

    files: list[Path]
    left_out: list[LeftOut]


def find_images(inputs: Sequence[Path], drawn: Path | None = None) -> Listing:
    """List the given files, those that match a pattern, and the images in and below folders.

    In a folder, images are files with the suffix of an image, and files that begin as DICOM files do. A file that is given by
    its name is always read.

    Args:
        inputs: files, folders, patterns.
        drawn: folder with overlays of earlier predictions; folders and patterns leave it out.

    Raises:
        InputError: an input that does not exist, or a folder without an image.
    """
    files: list[Path] = []
    left_out: list[LeftOut] = []
    for given in inputs:
        if os.path.isdir(given):  # noqa: PTH112 (Path.is_dir raises if the name is too long)
            found = _in_folder(given, drawn)
            if not found.files:
                raise InputError(f"{given}: no image in this folder; {_reasons(found.left_out)}")
        elif os.path.lexists(given):
            found = Listing([given], [])
        else:
            found = _matching(given, drawn)
        files += found.files
        left_out += found.left_out
    return Listing(list(dict.fromkeys(files)), list(dict.fromkeys(left_out)))


def _reasons(left_out: Sequence[LeftOut]) -> str:
    suffixes = f"images end in {', '.join(IMAGE_SUFFIXES)}"
    if not left_out:
        return suffixes
    first = left_out[0]
    return f"{len(left_out)} files are left out, such as {first.name}: {first.reason}; {suffixes}"


def _matching(pattern: Path, drawn: Path | None) -> Listing:
    try:
        matching = sorted(Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))))
    except OSError:  # the name is too long
        matching = []
    except (NotImplementedError, ValueError) as error:
        raise InputError(f"{pattern} is not a valid pattern: {error}") from error
    left_out = [LeftOut(str(file), reason) for file in matching if (reason := _never(file, file, drawn))]
    taken = [file for file in matching if not _never(file, file, drawn)]
    if not taken:
        raise InputError(f"{pattern} does not exist; give image files, folders, or patterns such as 'films/*.png'")
    found = find_images(taken, drawn)
    return Listing(found.files, left_out + found.left_out)


def _in_folder(folder: Path, drawn: Path | None) -> Listing:
    files: list[Path] = []
    left_out: list[LeftOut] = []

    def unreadable(error: OSError) -> None:
        left_out.append(LeftOut(str(error.filename), f"the folder cannot be read: {error.strerror}"))

    for place, folders, names in os.walk(folder, onerror=unreadable):
        for name in names:
            file = Path(place, name)
            if reason := _never(file, file.relative_to(folder), drawn) or _no_image(file):
                left_out.append(LeftOut(str(file), reason))
            else:
                files.append(file)
        links = [Path(place, name) for name in folders if os.path.islink(Path(place, name))]  # noqa: PTH114
        left_out += [LeftOut(str(link), "a link to a folder is not followed; give the folder itself") for link in links]
    return Listing(sorted(files), sorted(left_out))


def _never(file: Path, within: Path, drawn: Path | None) -> str:
    """Return why a file is left out whatever it holds; an empty text if it is not."""
    if is_mac_attributes(within):
        return "attributes that a Mac keeps beside a file"
    if drawn is not None and Path(os.path.realpath(file)).is_relative_to(os.path.realpath(drawn)):
        return "an overlay of an earlier prediction"
    return ""


def _no_image(file: Path) -> str:
    """Return why a file in a folder is no image; an empty text if it is one. Broken links may be: their rows say so."""
    try:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            regular = not os.path.exists(file) or stat.S_ISREG(file.stat().st_mode)  # noqa: PTH110
            return "" if regular else "not a regular file"
        if file.name == "DICOMDIR":
            return "a table of contents of DICOM files"
        with open_regular(file) as handle:
            if is_dicom(handle.read(PREAMBLE + 4)):
                return ""
        return "neither the suffix of an image nor the beginning of a DICOM file"
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def write_left_out(file: Path, left_out: Sequence[LeftOut], shown: int) -> list[str]:
    """Write the list of what is left out, or remove that of an earlier prediction; return lines to print.

    Args:
        file: a CSV.
        left_out: files and rows.
        shown: the number of entries to print.
    """
    if not left_out:
        file.unlink(missing_ok=True)
        return []
    rows = [LeftOut(safe_path(entry.name), safe_cell(entry.reason)) for entry in left_out]
    write_atomic(file, pd.DataFrame(rows, columns=LeftOut._fields).to_csv(index=False))
    lines = [f"{len(left_out)} files or rows without a prediction: {file}"]
    lines += [f"  {printable(entry.name)}: {printable(entry.reason)}" for entry in left_out[:shown]]
    return [*lines, f"  ... and {len(left_out) - shown} more"] if len(left_out) > shown else lines
