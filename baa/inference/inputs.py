"""Input files of a prediction, and what a table knows of each patient."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from baa.data.cases import parse_chronological, parse_sex
from baa.data.tables import read_rows
from baa.errors import InputError
from baa.inference.listing import LeftOut
from baa.names import match_key, printable
from baa.patient import Sex

FILE, SEX, MONTHS = "file", "sex", "age_months"
UNNAMED = "the table does not name this file"


class InputFile(NamedTuple):
    """A radiograph to predict, and sex and chronological age (months) of its patient.

    None leaves them to the file's header. sex_source: where the sex comes from, `option`, `table` or `page`. content: the
    bytes of a file, or an array [H, W], [H, W, C] or [C, H, W], for a radiograph in memory; `file` is not read then. note: a
    warning for its row.
    """

    file: Path
    sex: Sex | None = None
    months: float | None = None
    sex_source: str = ""
    content: bytes | np.ndarray | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """The path; empty for a radiograph in memory."""
        return str(self.file) if self.content is None else ""


def with_table(files: Iterable[Path], table: Path) -> tuple[list[InputFile], list[LeftOut]]:
    """Add sex and age from a table to files; also return the rows that name none of them.

    A row names a file by its path, the last parts of its path, or its name. Rows that match exactly go first. Then Unicode
    form, capitals, path separators and blanks around a name may differ. A file without a row gets a note.

    Args:
        files: to read.
        table: one row per file: `file`, `sex`, and optionally the chronological age, `age_months`.

    Raises:
        InputError: no such table, a missing column, a cell that cannot be read, or a row that matches several files.
    """
    rows, files = _rows(table), list(files)
    exact, similar = _names_of(files)
    known: dict[Path, InputFile] = {}
    unmatched: list[tuple[str, dict[str, str]]] = []
    for place, row in rows:
        if meant := exact.get(row[FILE].strip(), set()):
            _add(known, _only(meant, place, row), place, row)
        else:
            unmatched.append((place, row))
    named = set(known)
    left_out = []
    for place, row in unmatched:
        if meant := similar.get(match_key(row[FILE]), set()) - named:
            _add(known, _only(meant, place, row), place, row)
        else:
            left_out.append(LeftOut(place, f"{row[FILE]!r} names none of these files"))
    if rows and not known:
        raise InputError(f"--table: no row of {table} matches one of these files; its first file is {rows[0][1][FILE]!r}")
    return [known.get(file, InputFile(file, note=UNNAMED)) for file in files], left_out


def _names_of(files: Iterable[Path]) -> tuple[dict[str, set[Path]], dict[str, set[Path]]]:
    """Index files by path and name as they are, and by what `match_key` makes of each end of their paths."""
    exact: dict[str, set[Path]] = {}
    similar: dict[str, set[Path]] = {}
    for file in files:
        absolute = os.path.realpath(file)
        for name in (str(file), absolute, file.name):
            for spelling in {name, printable(name)}:
                exact.setdefault(spelling, set()).add(file)
        for path in {str(file), absolute}:
            parts = match_key(path).split("/")
            for first in range(len(parts)):
                similar.setdefault("/".join(parts[first:]), set()).add(file)
    return exact, similar


def _only(meant: set[Path], place: str, row: dict[str, str]) -> Path:
    first, *others = sorted(meant)
    if others:
        matches = f"{row[FILE]} matches {len(meant)} files, {first} and {others[0]}"
        raise InputError(f"{place}: {matches}; give its path")
    return first


def _add(known: dict[Path, InputFile], file: Path, place: str, row: dict[str, str]) -> None:
    if file in known:
        raise InputError(f"{place}: {row[FILE]} is listed twice; remove one row")
    try:
        sex, months = parse_sex(row[SEX]), parse_chronological(row.get(MONTHS, ""))
    except ValueError as error:
        raise InputError(f"{place}: {error}") from error
    known[file] = InputFile(file, None if sex == Sex.UNKNOWN else sex, months, "table")


def _rows(table: Path) -> list[tuple[str, dict[str, str]]]:
    if not table.exists():
        raise InputError(f"--table: {table} does not exist")
    frame = read_rows(table)
    if missing := [column for column in (FILE, SEX) if column not in frame]:
        raise InputError(
            f"--table: {table} has no column {missing[0]}; rename its columns to {FILE}, {SEX} and optionally {MONTHS}"
        )
    rows: list[dict[str, str]] = frame.to_dict("records")  # type: ignore[assignment]
    return list(zip(frame.index, rows, strict=True))
