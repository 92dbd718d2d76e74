"""Any table of radiographs: CSV, Parquet or Excel, one row per radiograph."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd

from baa.data.cases import CaseList
from baa.data.read.file import IMAGE_SUFFIXES, ImageFile
from baa.data.sources import DataSettings, Source
from baa.data.sources._rows import drop_duplicates, rows_to_cases
from baa.data.tables import read_rows
from baa.errors import InputError
from baa.patient import MONTHS_PER


def read_table(
    file: Path,
    *,
    folder: Path | None = None,
    image: str,
    id: str | None = None,
    months: str | None = None,
    sex: str | None = None,
    split: str | None = None,
    patient: str | None = None,
    age_unit: str = "months",
) -> CaseList:
    r"""Read the cases that a table lists.

    Args:
        file: the table.
        folder: the folder that image names are relative to; the table's own if None.
        image: column of image files, with or without suffix.
        id: column of ids; the image's stem if None.
        months: column of ages; None if there are none, for prediction.
        sex, split, patient: optional columns.
        age_unit: `months`, `years` or `days`.

    Returns:
        The usable cases, and the problems of the other rows.

    Raises:
        InputError: the file, the folder or a named column does not exist.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "ours.csv")
        ...     _ = file.write_text("film,years,sex\na.png,10.5,m\n")
        ...     Image.new("L", (40, 30)).save(Path(folder, "a.png"))
        ...     cases, problems = read_table(file, image="film", months="years", sex="sex", age_unit="years")
        >>> cases[0].id, cases[0].months, cases[0].sex, problems
        ('a', 126.0, <Sex.MALE: 1>, [])
    """
    if not file.is_file():
        raise InputError(f"data.table.file: {file} is not a file")
    rows = read_rows(file)
    columns = {"image": image, "id": id, "months": months, "sex": sex, "split": split, "patient": patient}
    for setting, column in columns.items():
        if column is not None and column not in rows.columns:
            raise InputError(f"data.table.{setting}: {file} has no column {column!r}; it has {', '.join(map(str, rows))}")
    images = folder or file.parent
    if not images.is_dir():
        raise InputError(f"data.root: {images} is not a folder")
    table = pd.DataFrame({setting: rows[column] for setting, column in columns.items() if column is not None})
    if "id" not in table:
        table["id"] = [Path(name.strip().replace("\\", "/")).stem for name in table["image"]]
    return drop_duplicates(
        *rows_to_cases(
            table,
            lambda row: _image_in(images, row["image"]),
            sex_column=sex or "",
            months_per_unit=MONTHS_PER[age_unit],
        )
    )


def _image_in(folder: Path, name: str) -> ImageFile | None:
    """Find the file that a cell names, with or without suffix, in either form of Unicode, with either path separator."""
    forms = [name.strip(), name.strip().replace("\\", "/")]
    forms += [unicodedata.normalize(form, name) for name in forms for form in ("NFC", "NFD")]
    for form in filter(None, dict.fromkeys(forms)):
        for path in (folder / form, *(folder / f"{form}{suffix}" for suffix in IMAGE_SUFFIXES)):
            if os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises if the name is too long)
                return ImageFile(path)
    return None


def _read(data: DataSettings) -> CaseList:
    columns: dict[str, Any] = dict(vars(data.table))
    if (file := columns.pop("file")) is None:
        raise InputError("data.table.file is not given; name the CSV, Excel or Parquet file that lists the radiographs")
    return read_table(Path(file), folder=Path(data.root) if data.root else None, **columns)


SOURCE = Source(
    read=_read,
    description="radiographs of the model's authors",
    licence="Trained on data of the model's authors: ask them what use it permits.",
)
