"""Input files of a prediction, given by name, folder or pattern, and what is known of each patient."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from baa.data.cases import parse_months, parse_sex
from baa.data.dicom import PREAMBLE, is_dicom
from baa.data.radiograph import IMAGE_SUFFIXES
from baa.data.tables import read_rows
from baa.errors import InputError
from baa.patient import Sex

FILE, SEX, MONTHS = "file", "sex", "age_months"
OLDEST_MONTHS = 1440.0
"""Largest chronological age: adults get an answer with a warning."""


class InputFile(NamedTuple):
    """A radiograph to predict, and sex and chronological age (months) of its patient.

    None leaves them to the file's header. sex_source: where the sex comes from, `option`, `table` or `page`. content: the
    bytes of a file, or an array, for a radiograph in memory; `file` is not read then.
    """

    file: Path
    sex: Sex | None = None
    months: float | None = None
    sex_source: str = ""
    content: bytes | np.ndarray | None = None

    @property
    def name(self) -> str:
        """The path; empty for a radiograph in memory."""
        return str(self.file) if self.content is None else ""


def find_images(inputs: Sequence[Path], drawn: Path | None = None) -> list[Path]:
    """List the given files, those that match a pattern, and the images in and below folders; in order, each once.

    In a folder, images are files with a suffix of PNG, JPEG, TIFF or DICOM, and files that begin as DICOM files do.

    Args:
        inputs: files, folders, patterns.
        drawn: folder with overlays of earlier predictions; folders and patterns leave it out.

    Raises:
        InputError: an input that does not exist, or a folder without an image.
    """
    files: list[Path] = []
    for given in inputs:
        if given.is_dir():
            found = sorted(file for file in given.rglob("*") if _is_image(file) and not _is_in(file, drawn))
            if not found:
                raise InputError(f"{given}: no image in this folder; images end in {', '.join(IMAGE_SUFFIXES)}")
            files += found
        elif given.exists():
            files.append(given)
        elif matching := [file for file in _matching(given) if not _is_in(file, drawn)]:
            files += find_images(matching, drawn)
        else:
            raise InputError(f"{given} does not exist; give image files, folders, or patterns such as 'films/*.png'")
    return list(dict.fromkeys(files))


def _matching(pattern: Path) -> list[Path]:
    try:
        return sorted(Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))))
    except ValueError as error:
        raise InputError(f"{pattern} is not a valid pattern: {error}") from error


def _is_in(file: Path, folder: Path | None) -> bool:
    return folder is not None and file.resolve().is_relative_to(folder.resolve())


def _is_image(file: Path) -> bool:
    """Return whether a file has the suffix of an image or begins as a DICOM file. A DICOMDIR is a table of contents."""
    if file.suffix.lower() in IMAGE_SUFFIXES or not file.is_file() or file.name == "DICOMDIR":
        return file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
    try:
        with file.open("rb") as handle:
            return is_dicom(handle.read(PREAMBLE + 4))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def with_table(files: Iterable[Path], table: Path) -> tuple[list[InputFile], int]:
    """Add sex and age from a table to files; also return the number of rows that match no file.

    Args:
        files: to read.
        table: one row per file: `file` (path or name), `sex`, and optionally the chronological age, `age_months`.

    Raises:
        InputError: no such table, a missing column, a cell that cannot be read, or a row that matches several files.
    """
    rows, used = _rows(table), set()
    names: dict[str, list[Path]] = {}
    files = list(files)
    for file in files:
        for name in {str(file), str(file.resolve()), file.name}:
            names.setdefault(name, []).append(file)
    known: dict[Path, InputFile] = {}
    for line, row in rows:
        meant = names.get(row[FILE].strip(), [])
        place = f"{table}, line {line}"
        if len(meant) > 1:
            raise InputError(f"{place}: {row[FILE]} matches {len(meant)} files, {meant[0]} and {meant[1]}; give its path")
        try:
            sex = parse_sex(row[SEX])
            months = parse_months(row[MONTHS], most=OLDEST_MONTHS) if row.get(MONTHS, "").strip() else None
        except ValueError as error:
            raise InputError(f"{place}: {error}") from error
        for file in meant:
            if file in known:
                raise InputError(f"{place}: {row[FILE]} is listed twice; remove one row")
            known[file] = InputFile(file, None if sex == Sex.UNKNOWN else sex, months, "table")
            used.add(line)
    if rows and not used:
        raise InputError(f"--table: no row of {table} matches one of these files; its first file is {rows[0][1][FILE]!r}")
    return [known.get(file, InputFile(file)) for file in files], len(rows) - len(used)


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    if not table.is_file():
        raise InputError(f"--table: {table} does not exist")
    frame = read_rows(table)
    if missing := [column for column in (FILE, SEX) if column not in frame]:
        raise InputError(f"--table: {table} has no column {missing[0]}; it needs {FILE}, {SEX} and optionally {MONTHS}")
    rows: list[dict[str, str]] = frame.to_dict("records")  # type: ignore[assignment]
    return [(line, row) for line, row in enumerate(rows, start=2) if any(row.values())]
