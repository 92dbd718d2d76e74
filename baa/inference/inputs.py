"""What a prediction is asked for: image files by name, by folder or by pattern, and what is known of each patient."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from baa.data.cases import parse_months, parse_sex
from baa.data.dicom import PREAMBLE, is_dicom
from baa.data.radiograph import IMAGE_SUFFIXES
from baa.data.tables import read_rows
from baa.errors import InputError
from baa.patient import Sex

FILE, SEX, MONTHS = "file", "sex", "age_months"
OLDEST_MONTHS = 1440.0
"""Chronological ages go on where bone ages end: a grown patient's film gets an answer with a warning."""


class Asked(NamedTuple):
    """A file to read, and what whoever asks says of the patient: the sex and the chronological age in months.

    None where they leave it to the file; `by` says whether the sex was an option's or a table's.
    """

    file: Path
    sex: Sex | None = None
    months: float | None = None
    by: str = ""


def find_images(inputs: Sequence[Path], drawn: Path | None = None) -> list[Path]:
    """The files given, those that a pattern fits, and of each folder the images in it and below it, in order and each once.

    In a folder, images are what ends as PNG, JPEG, TIFF or DICOM files do, and what begins as DICOM files do.

    Args:
        inputs: files, folders, patterns.
        drawn: folder with pictures of earlier answers, which no folder or pattern is taken to mean.

    Raises:
        InputError: an input that is not there, or a folder without an image.
    """
    files: list[Path] = []
    for given in inputs:
        if given.is_dir():
            found = sorted(file for file in given.rglob("*") if _is_image(file) and not _is_in(file, drawn))
            if not found:
                raise InputError(f"{given} holds no image: not one file ends in {', '.join(IMAGE_SUFFIXES)}")
            files += found
        elif given.exists():
            files.append(given)
        elif matching := [file for file in _matching(given) if not _is_in(file, drawn)]:
            files += find_images(matching, drawn)
        else:
            raise InputError(f"{given} is not there; give image files, folders of them, or patterns such as 'films/*.png'")
    return list(dict.fromkeys(files))


def _matching(pattern: Path) -> list[Path]:
    try:
        return sorted(Path(pattern.anchor or ".").glob(str(pattern.relative_to(pattern.anchor))))
    except ValueError as error:
        raise InputError(f"{pattern} is no pattern: {error}") from error


def _is_in(file: Path, folder: Path | None) -> bool:
    return folder is not None and file.resolve().is_relative_to(folder.resolve())


def _is_image(file: Path) -> bool:
    """By its end or, since DICOM files are named by anything, by its beginning; a DICOMDIR is a table of contents."""
    if file.suffix.lower() in IMAGE_SUFFIXES or not file.is_file() or file.name == "DICOMDIR":
        return file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
    try:
        with file.open("rb") as handle:
            return is_dicom(handle.read(PREAMBLE + 4))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def with_table(files: Iterable[Path], table: Path) -> tuple[list[Asked], int]:
    """Every file with what a table says of it, and the number of rows that no file is meant by.

    Args:
        files: to read.
        table: with a row a file: `file` (its path, or its name), `sex`, and if known the chronological `age_months`.

    Raises:
        InputError: no such table, a column is missing, a cell cannot be read, or a row means several files.
    """
    rows, used = _rows(table), set()
    names: dict[str, list[Path]] = {}
    files = list(files)
    for file in files:
        for name in {str(file), str(file.resolve()), file.name}:
            names.setdefault(name, []).append(file)
    known: dict[Path, Asked] = {}
    for line, row in rows:
        meant = names.get(row[FILE].strip(), [])
        place = f"{table}, line {line}"
        if len(meant) > 1:
            raise InputError(f"{place}: {row[FILE]} is {len(meant)} files, {meant[0]} and {meant[1]}; give its path")
        try:
            sex = parse_sex(row[SEX])
            months = parse_months(row[MONTHS], most=OLDEST_MONTHS) if row.get(MONTHS, "").strip() else None
        except ValueError as error:
            raise InputError(f"{place}: {error}") from error
        for file in meant:
            if file in known:
                raise InputError(f"{place}: {row[FILE]} stands in it twice")
            known[file] = Asked(file, None if sex == Sex.UNKNOWN else sex, months, "table")
            used.add(line)
    if rows and not used:
        raise InputError(f"--table: no row of {table} names one of these files; the first names {rows[0][1][FILE]!r}")
    return [known.get(file, Asked(file)) for file in files], len(rows) - len(used)


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    if not table.is_file():
        raise InputError(f"--table: {table} is not a file")
    frame = read_rows(table)
    if missing := [column for column in (FILE, SEX) if column not in frame]:
        raise InputError(f"--table: {table} has no column {missing[0]}; it takes {FILE}, {SEX} and, if known, {MONTHS}")
    rows: list[dict[str, str]] = frame.to_dict("records")  # type: ignore[assignment]
    return [(line, row) for line, row in enumerate(rows, start=2) if any(row.values())]
