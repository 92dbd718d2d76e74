"""Tables as users have them: CSV files, Excel's workbooks and Parquet files."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd

from baa.errors import InputError

WORKBOOK, PARQUET = ".xlsx", ".parquet"


def read_rows(file: Path) -> pd.DataFrame:
    """The cells of a CSV, of a workbook's first sheet or of a Parquet file, under names without blanks about them.

    Cells are as they are written, and blank where there are none.

    Raises:
        InputError: none of the three, a file that cannot be opened, or a CSV with cells beyond its last column.
    """
    try:
        table = _read(file)
    except (ValueError, KeyError, BadZipFile, OSError) as error:
        raise InputError(f"{file} is not a table that can be read: {error}") from error
    return table.rename(columns=lambda name: str(name).strip())


def _read(file: Path) -> pd.DataFrame:
    as_it_is: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    if file.suffix.lower() == WORKBOOK:
        return pd.read_excel(file, **as_it_is)
    if file.suffix.lower() == PARQUET:
        cells = pd.read_parquet(file).astype(object)
        return cells.where(cells.notna(), "").astype(str)
    table = pd.read_csv(file, skipinitialspace=True, skip_blank_lines=False, **as_it_is)  # blank ones count when lines are told
    return table if isinstance(table.index, pd.RangeIndex) else _without_blank_end(table)


def _without_blank_end(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose lines end in more commas than its first: pandas takes their first cells for an index."""
    names, cells = list(table), table.reset_index().to_numpy()
    if (cells[:, len(names) :] != "").any():
        raise ValueError(f"its rows have {cells.shape[1]} cells under {len(names)} names")
    return pd.DataFrame(cells[:, : len(names)], columns=names)
