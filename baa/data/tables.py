"""Read tables: text (CSV), Excel workbooks and Parquet files."""

import codecs
import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from baa.data.parquet import parquet_rows
from baa.data.regular import open_regular
from baa.data.rows import MAX_BYTES, MAX_CELLS, MAX_COLUMNS, MAX_ROWS, Row, Rows
from baa.data.workbook import ENCRYPTED_OR_OLD, OLE_SIGNATURE, sheet_rows
from baa.errors import InputError
from baa.names import printable

WORKBOOK, PARQUET = ".xlsx", ".parquet"

MAX_LINE_CHARS = 1 << 20
MAX_REASON_CHARS = 200

DELIMITERS = "\t;,"
"""In the order in which they are preferred if the header has as many of two: text contains commas more often than tabs."""

NO_TEXT = {
    b"PK\x03\x04": "it is a workbook or an archive; name a workbook .xlsx",
    b"PAR1": "it is a Parquet file; name it .parquet",
    b"\x1f\x8b": "it is compressed; unpack it",
    OLE_SIGNATURE: ENCRYPTED_OR_OLD,
}
"""What a file is whose first bytes are these."""


def read_rows(file: Path) -> pd.DataFrame:
    r"""Read a CSV file, the first sheet of a workbook, or a Parquet file.

    A CSV file is in UTF-8, UTF-16 or cp1252; its delimiter is a comma, a semicolon or a tab. Cells are text as written, blank
    where empty; error cells of a workbook are text such as `#REF!`. Column names are stripped. Blank rows, and columns
    without a name, are left out. The index is each row's place, for messages: file, sheet, line.

    Raises:
        InputError: the file cannot be read as a table, is too large, has two columns of one name, or cells beyond its header.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "ages.csv")
        ...     _ = file.write_text("id;age\n7;10,5\n")
        ...     read_rows(file).to_dict("records")
        [{'id': '7', 'age': '10,5'}]
    """
    try:
        with open_regular(file) as handle:
            if (size := os.fstat(handle.fileno()).st_size) > MAX_BYTES:
                raise ValueError(f"it has {size >> 20} MiB; the limit is {MAX_BYTES >> 20}")
            sheet, rows = READERS.get(file.suffix.lower(), text_rows)(handle)
            return _as_frame(file, sheet, rows)
    except Exception as error:  # libraries raise anything on a damaged file
        raise InputError(f"{file} cannot be read as a table: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(reason.partition("\n")[0])[:MAX_REASON_CHARS] or type(error).__name__


def _as_frame(file: Path, sheet: str, rows: Iterable[Row]) -> pd.DataFrame:
    of_sheet = f"sheet {sheet!r}: " if sheet else ""
    place = f"{file}, sheet {sheet!r}" if sheet else str(file)
    rows = ((line, cells) for line, cells in rows if any(map(str.strip, cells)))
    _, header = next(rows, (0, []))
    names = [name.strip() for name in header]
    while names and not names[-1]:
        del names[-1]
    if not names:
        raise ValueError(f"{of_sheet}it is empty")
    if len(names) > MAX_COLUMNS:
        raise ValueError(f"{of_sheet}it has {len(names):,} columns; the limit is {MAX_COLUMNS:,}")
    if repeated := [name for name, times in Counter(filter(None, names)).items() if times > 1]:
        raise ValueError(f"{of_sheet}two columns are named {repeated[0]!r}; rename or remove one")
    places: list[str] = []
    table: list[list[str]] = []
    for line, cells in rows:
        if any(map(str.strip, cells[len(names) :])):
            raise ValueError(f"{of_sheet}rows have {len(cells)} cells and the header has {len(names)}, first in line {line}")
        if len(table) >= min(MAX_ROWS, MAX_CELLS // len(names)):
            raise ValueError(f"{of_sheet}it has more than {len(table):,} rows; split it")
        places.append(f"{place}, line {line}")
        table.append([*cells[: len(names)], *[""] * (len(names) - len(cells))])
    frame = pd.DataFrame(table, index=places, columns=names, dtype=object)
    return frame.loc[:, [name != "" for name in names]]


def text_rows(handle: BinaryIO) -> Rows:
    """Read the rows of a CSV file."""
    data = handle.read(MAX_BYTES)
    for signature, what in NO_TEXT.items():
        if data.startswith(signature):
            raise ValueError(what)
    text = _decode(data)
    if "\0" in text:
        raise ValueError("it is no text: it holds NUL characters")
    return "", _split(text)


def _decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if data[1:2] == b"\0":
        return data.decode("utf-16-le")
    if data[:1] == b"\0":
        return data.decode("utf-16-be")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        raise ValueError("its encoding is none of UTF-8, UTF-16 and cp1252; save it as UTF-8") from None


def _split(text: str) -> Iterator[Row]:
    declared = re.match(r'\s*"?sep=([^\r\n])"?\s*[\r\n]', text)  # Excel's own first line
    header = re.sub(r'"[^"]*"', "", text[declared.end() if declared else 0 :].lstrip()[:MAX_LINE_CHARS])
    header = re.split(r"[\r\n]", header, maxsplit=1)[0]
    found = max(DELIMITERS, key=header.count)
    delimiter = declared[1] if declared else found if found in header else ","
    lines = csv.reader(_short_lines(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    if declared:
        next(lines)
    begins = lines.line_num + 1
    while True:
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"line {begins}: {error}") from error
        yield begins, cells
        begins = lines.line_num + 1


def _short_lines(text: str) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        if len(line) > MAX_LINE_CHARS:
            raise ValueError(f"a line has {len(line):,} characters; the limit is {MAX_LINE_CHARS:,}")
        yield line


READERS: dict[str, Callable[[BinaryIO], Rows]] = {WORKBOOK: sheet_rows, PARQUET: parquet_rows}
"""By suffix; all other files are text."""
