"""The rows of a table as its readers return them, and the limits of a table."""

from collections.abc import Iterator

Row = tuple[int, list[str]]
"""A line number, counted from 1, and the cells of the line."""

Rows = tuple[str, Iterator[Row]]
"""The title of the sheet, empty if the file has none, and its rows, the header first."""

MAX_ROWS, MAX_COLUMNS = 1_048_576, 16_384
"""Of a sheet in Excel, and here of any table."""

MAX_CELLS = 10_000_000
"""Some 700 MiB of text."""

MAX_BYTES, MAX_UNPACKED_BYTES = 256 << 20, 512 << 20
