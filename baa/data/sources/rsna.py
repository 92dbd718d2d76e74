"""The RSNA Pediatric Bone Age Challenge (2017), in the layout of its release: tables, and images in folders or tars.

Halabi et al. 2019, "The RSNA Pediatric Bone Age Machine Learning Challenge", Radiology 290(2).
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from baa.data.cases import Case, CaseList, Problem
from baa.data.sources import DataSettings, Source
from baa.data.sources._images import IMAGE_SUFFIXES, ImageIndex
from baa.data.sources._rows import drop_duplicates, rows_to_cases
from baa.data.tables import WORKBOOK, read_rows
from baa.errors import InputError
from baa.names import is_mac_attributes

TABLE_SUFFIXES = (".csv", WORKBOOK)
TABLE_DEPTHS = ("*", "*/*", "*/*/*")
OPEN_WORKBOOK = "~$"
"""Prefix of the lock file that Excel keeps beside an open workbook."""


class Columns(NamedTuple):
    """The split that one of the challenge's tables is for, and its column names."""

    split: str
    id: str
    months: str
    sex: str


TABLES = (
    Columns("train", "id", "boneage", "male"),
    Columns("val", "Image ID", "Bone Age (months)", "male"),
    Columns("test", "Case ID", "Ground truth bone age (months)", "Sex"),
)


def read_rsna(root: Path) -> CaseList:
    r"""Read the cases of the challenge's tables. Tables are recognized by their columns.

    A table is a CSV file or a workbook (the test set is released as one) in `root` or up to two folders below. An image may
    be anywhere below `root`, in a tar too. Cases get the split of their table; if only one split is present, they get none.

    Args:
        root: the folder.

    Returns:
        The usable cases, and the problems of the other rows.

    Raises:
        InputError: `root` is not a folder, or holds no table with the challenge's columns.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "train.csv").write_text("id,boneage,male\n1377,180,False\n1378,12,True\n")
        ...     Image.new("L", (40, 30)).save(Path(folder, "1377.png"))
        ...     cases, problems = read_rsna(Path(folder))
        >>> cases[0].id, cases[0].months, cases[0].sex
        ('1377', 180.0, <Sex.FEMALE: 0>)
        >>> problems[0].reason
        'its image 1378.* is missing'
    """
    if not root.is_dir():
        raise InputError(f"data.root: {root} is not a folder")
    tables = _find_tables(root)
    if not tables:
        known_columns = "; or ".join(f"{known.id}, {known.months}, {known.sex}" for known in TABLES)
        raise InputError(f"data.root: no table of the RSNA challenge in {root}; one needs the columns {known_columns}")
    images = ImageIndex(root)
    official = len({known.split for _, known in tables}) > 1
    cases: list[Case] = []
    problems: list[Problem] = []
    for rows, known in tables:
        wanted = {"id": known.id, "months": known.months, "sex": known.sex, "split": "split"}
        table = pd.DataFrame({name: rows[column] for name, column in wanted.items() if column in rows})
        table["id"] = table["id"].map(_plain_id)
        more, bad = rows_to_cases(table, lambda row: images.find(row["id"]), sex_column=known.sex)
        cases += [replace(case, split=known.split) for case in more] if official else more
        problems += bad
    return drop_duplicates(cases, problems)


def _plain_id(cell: str) -> str:
    """Return an id without blanks, without the suffix of its image, and without the `.0` that spreadsheets add."""
    id_ = cell.strip()
    for suffix in (*IMAGE_SUFFIXES, ".0"):
        if id_.lower().endswith(suffix):
            return id_[: -len(suffix)]
    return id_


def _find_tables(root: Path) -> list[tuple[pd.DataFrame, Columns]]:
    tables = []
    for file in sorted(file for depth in TABLE_DEPTHS for file in root.glob(depth)):
        if file.suffix.lower() not in TABLE_SUFFIXES or file.name.startswith(OPEN_WORKBOOK):
            continue
        if is_mac_attributes(file.relative_to(root)) or not file.is_file():
            continue
        rows = read_rows(file)
        tables += [(rows, known) for known in TABLES if {known.id, known.months, known.sex} <= set(rows.columns)]
    return tables


def _read(data: DataSettings) -> CaseList:
    if not data.root:
        raise InputError("data.root is not given; name the folder that holds the RSNA challenge's tables and images")
    return read_rsna(Path(data.root))


SOURCE = Source(
    read=_read,
    description="frontal radiographs of left hands and wrists of children, RSNA Pediatric Bone Age Challenge (2017)",
    # Word for word as in published bundles: Provenance merges licences by their text.
    licence="Trained on the RSNA Pediatric Bone Age Challenge's data (2017): for non-commercial research use.",
)
