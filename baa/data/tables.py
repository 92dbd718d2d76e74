"""Tables as users have them: CSV files and Excel's workbooks."""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd

from baa.errors import InputError

WORKBOOK = ".xlsx"
TABLE_SUFFIXES = (".csv", WORKBOOK)


def read_rows(file: Path) -> pd.DataFrame:
    """The cells of a CSV or of a workbook's first sheet, as they are written, under names without blanks about them.

    Raises:
        InputError: neither of the two.
    """
    try:
        if file.suffix.lower() == WORKBOOK:
            table = pd.read_excel(file, dtype=str, keep_default_na=False)
        else:
            as_it_is: dict[str, Any] = {"keep_default_na": False, "skip_blank_lines": False}  # so that lines can be told
            table = pd.read_csv(file, dtype=str, skipinitialspace=True, **as_it_is)
    except (ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{file} is not a table that can be read: {error}") from error
    return table.rename(columns=lambda name: str(name).strip())
