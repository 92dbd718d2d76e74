"""Read tables: CSV files, Excel workbooks and Parquet files."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd

from baa.errors import InputError

WORKBOOK, PARQUET = ".xlsx", ".parquet"


def read_rows(file: Path) -> pd.DataFrame:
    """Read a CSV file, the first sheet of a workbook, or a Parquet file.

    Cells are text as written, blank where empty. Column names are stripped.

    Raises:
        InputError: the file cannot be read as a table, or a CSV has cells beyond its last named column.
    """
    try:
        table = _read(file)
    except (ValueError, KeyError, BadZipFile, OSError) as error:
        raise InputError(f"{file} cannot be read as a table: {error}") from error
    return table.rename(columns=lambda name: str(name).strip())


def _read(file: Path) -> pd.DataFrame:
    as_written: dict[str, Any] = {"dtype": str, "keep_default_na": False}
    if file.suffix.lower() == WORKBOOK:
        return pd.read_excel(file, **as_written)
    if file.suffix.lower() == PARQUET:
        cells = pd.read_parquet(file).astype(object)
        return cells.where(cells.notna(), "").astype(str)
    table = pd.read_csv(
        file, skipinitialspace=True, skip_blank_lines=False, **as_written
    )  # blank lines keep line numbers right
    return table if isinstance(table.index, pd.RangeIndex) else _without_extra_commas(table)


def _without_extra_commas(table: pd.DataFrame) -> pd.DataFrame:
    """Undo what pandas does with rows that end in extra commas: it reads their first cells as an index."""
    names, cells = list(table), table.reset_index().to_numpy()
    if (cells[:, len(names) :] != "").any():
        raise ValueError(f"rows have {cells.shape[1]} cells and the header has {len(names)}")
    return pd.DataFrame(cells[:, : len(names)], columns=names)
