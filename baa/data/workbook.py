"""Read the first sheet of an Excel workbook, row by row."""

import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from openpyxl import load_workbook

from baa.data.rows import MAX_ROWS, MAX_UNPACKED_BYTES, Row, Rows

OLE_SIGNATURE = b"\xd0\xcf\x11\xe0"
ENCRYPTED_OR_OLD = "it is protected by a password, or an old workbook (.xls); save it as .xlsx without a password"

MAX_SCANNED_CELLS = 20_000_000
"""Blank cells included: a row is read up to its last cell."""


def sheet_rows(handle: BinaryIO) -> Rows:
    """Return the title and the rows of a workbook's first sheet. Gaps between its cells cost nothing.

    Raises:
        ValueError: the workbook is encrypted, unpacks to too much, or has no sheet.

    Example:
        >>> import tempfile
        >>> from openpyxl import Workbook
        >>> book = Workbook()
        >>> book.active.append(["id", "age"])
        >>> book.active.append(["a", 120.0])
        >>> with tempfile.TemporaryFile() as file:
        ...     book.save(file)
        ...     _ = file.seek(0)
        ...     title, rows = sheet_rows(file)
        ...     title, list(rows)
        ('Sheet', [(1, ['id', 'age']), (2, ['a', '120'])])
    """
    if handle.read(len(OLE_SIGNATURE)) == OLE_SIGNATURE:
        raise ValueError(ENCRYPTED_OR_OLD)
    with zipfile.ZipFile(handle) as archive:
        parts = archive.infolist()
    if any(part.flag_bits & 1 for part in parts):
        raise ValueError("the archive is encrypted; save it without a password")
    if (size := sum(part.file_size for part in parts)) > MAX_UNPACKED_BYTES:  # zipfile unpacks no more than is declared
        raise ValueError(f"it unpacks to {size >> 20:,} MiB; the limit is {MAX_UNPACKED_BYTES >> 20}")
    book = load_workbook(handle, read_only=True, data_only=True, keep_links=False)
    if not book.worksheets:
        raise ValueError("it has no sheet")
    sheet = book.worksheets[0]
    return sheet.title, _rows(sheet)


def _rows(sheet: Any) -> Iterator[Row]:
    sheet.reset_dimensions()  # rows would be filled up to the declared size
    scanned = 0
    for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        scanned += len(cells)
        if line > MAX_ROWS or scanned > MAX_SCANNED_CELLS:
            raise ValueError(f"sheet {sheet.title!r} has cells too far down or to the right; delete them, blank ones too")
        last = len(cells)
        while last and (cells[last - 1] is None or not str(cells[last - 1]).strip()):
            last -= 1
        if last:
            yield line, [_text(value) for value in cells[:last]]


def _text(value: Any) -> str:
    """Return a cell as Excel shows it: whole numbers without a decimal point."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
