"""Where cases come from: the RSNA challenge's layout, any table. (The third source is `baa.data.sources.phantom.phantom`.)"""

import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from baa.data.cases import Case, Problem, parse_months, parse_sex, parse_split
from baa.data.radiograph import IMAGE_SUFFIXES, ImageFile
from baa.data.tables import WORKBOOK, read_rows
from baa.errors import InputError
from baa.patient import MONTHS_PER, Sex

RSNA_SUFFIXES = (".png", ".jpg", ".jpeg")
TABLE_SUFFIXES = (".csv", WORKBOOK)
OPEN_WORKBOOK = "~$"
"""How the name begins of what Excel leaves beside a workbook while it is open."""


class RsnaTable(NamedTuple):
    """How one of the challenge's tables names its columns, and the split it stands for."""

    split: str
    id: str
    months: str
    sex: str


RSNA_TABLES = (
    RsnaTable("train", "id", "boneage", "male"),
    RsnaTable("val", "Image ID", "Bone Age (months)", "male"),
    RsnaTable("test", "Case ID", "Ground truth bone age (months)", "Sex"),
)

CaseList = tuple[list[Case], list[Problem]]


def read_rsna(root: Path) -> CaseList:
    """The official layout: tables known by their columns, images anywhere below `root`, in folders or tars.

    A table whose file (CSV or, as the test set's is released, a workbook) lies in the root or up to two folders down counts.
    Every case carries the split of its table; where there is only the training table, none.

    Raises:
        InputError: no such folder, or no table with the challenge's columns in it.
    """
    if not root.is_dir():
        raise InputError(f"data.root: {root} is not a folder")
    found = []
    files = sorted(file for depth in ("*", "*/*", "*/*/*") for file in root.glob(depth))
    for file in files:
        if file.suffix.lower() not in TABLE_SUFFIXES or file.name.startswith(OPEN_WORKBOOK):
            continue
        table = read_rows(file)
        for known in RSNA_TABLES:
            if {known.id, known.months, known.sex} <= set(table.columns):
                found.append((file, table, known))
    if not found:
        wanted = "; ".join(f"{t.id}, {t.months}, {t.sex}" for t in RSNA_TABLES)
        raise InputError(f"data.root: no table of the RSNA challenge below {root}; its columns are one of: {wanted}")
    images = index_images(root)

    def image_of(row: dict[str, str]) -> ImageFile | None:
        found = images.get(row["id"], [])
        if len(found) > 1:
            raise ValueError(f"it has several images, {found[0].name} and {found[1].name}; leave one of them below {root}")
        return found[0] if found else None

    official = len({known.split for _, _, known in found}) > 1
    cases, problems = [], []
    for file, table, known in found:
        more, bad = _rows_to_cases(
            file,
            table.rename(columns={known.id: "id", known.months: "months", known.sex: "sex"}),
            image_of,
            sex_column=known.sex,
        )
        cases += [replace(case, split=known.split) for case in more] if official else more
        problems += bad
    return drop_duplicates(cases, problems)


def read_table(
    file: Path,
    *,
    images: Path | None,
    image_column: str,
    id_column: str | None,
    months_column: str | None,
    sex_column: str | None,
    split_column: str | None,
    age_unit: str = "months",
) -> CaseList:
    """Any CSV, Parquet or Excel file, a row a case.

    Args:
        file: the table.
        images: the folder that image names are relative to; the table's own when None.
        image_column: names an image file, with or without its suffix.
        id_column: the image's stem when None.
        months_column: the age; None where there is none (prediction).
        sex_column, split_column: optional too.
        age_unit: `months`, `years` or `days`.

    Raises:
        InputError: no such file, or a named column is not in it.
    """
    if not file.is_file():
        raise InputError(f"data.table.file: {file} is not a file")
    table = read_rows(file)
    named = {
        "image": image_column,
        "id": id_column,
        "months": months_column,
        "sex": sex_column,
        "split": split_column,
    }
    for setting, column in named.items():
        if column is not None and column not in table.columns:
            raise InputError(f"data.table.{setting}: {file} has no column {column!r}; it has {', '.join(map(str, table))}")
    folder = images or file.parent
    if not folder.is_dir():
        raise InputError(f"data.root: {folder} is not a folder")
    table = pd.DataFrame({setting: table[column] for setting, column in named.items() if column is not None})
    if "id" not in table:
        table["id"] = [Path(name).stem for name in table["image"]]
    return drop_duplicates(
        *_rows_to_cases(
            file,
            table,
            lambda row: _image_in(folder, row["image"]),
            sex_column=sex_column or "",
            months_per_unit=MONTHS_PER[age_unit],
            ages="months" in table,
        )
    )


def _image_in(folder: Path, name: str) -> ImageFile | None:
    if not name.strip():
        return None
    for path in (folder / name, *(folder / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES)):
        if path.is_file():
            return ImageFile(path)
    return None


def _rows_to_cases(
    file: Path,
    table: pd.DataFrame,
    image_of: Callable[[dict[str, str]], ImageFile | None],
    *,
    sex_column: str,
    months_per_unit: float = 1.0,
    ages: bool = True,
) -> CaseList:
    cases, problems = [], []
    rows: list[dict[str, str]] = table.to_dict("records")  # type: ignore[assignment]
    for line, row in enumerate(rows, start=2):
        if not any(row.values()):
            continue
        place = f"{file}, line {line}"
        try:
            if not row["id"].strip():
                raise ValueError("id is missing")
            months = parse_months(row["months"], months_per_unit) if ages else None
            sex = parse_sex(row["sex"], sex_column) if "sex" in row else Sex.UNKNOWN
            split = parse_split(row["split"]) if "split" in row else None
            image = image_of(row)
            if image is None:
                raise ValueError(f"its image {row.get('image') or row['id'] + '.*'} is missing")
        except ValueError as error:
            problems.append(Problem(row["id"], place, str(error)))
            continue
        cases.append(Case(row["id"].strip(), image, months, sex, split))
    return cases, problems


def index_images(root: Path) -> dict[str, list[ImageFile]]:
    """Every image below a folder by its stem, those inside tars too where no loose file has the stem."""
    packed: dict[str, list[ImageFile]] = {}
    loose: dict[str, list[ImageFile]] = {}
    for tar in sorted(root.rglob("*.tar")):
        try:
            with tarfile.open(tar) as archive:
                for member in archive:
                    if member.isfile() and member.name.lower().endswith(RSNA_SUFFIXES):
                        stem = Path(member.name).stem
                        packed.setdefault(stem, []).append(ImageFile(tar, member.offset_data, member.size, member.name))
        except tarfile.TarError as error:
            raise InputError(f"{tar} is not a whole tar: {error}") from error
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in RSNA_SUFFIXES:
            loose.setdefault(path.stem, []).append(ImageFile(path))
    return packed | loose


def drop_duplicates(cases: list[Case], problems: list[Problem]) -> CaseList:
    """Set every case aside whose id is not its own: which of the rows is right, nobody can tell."""
    times = Counter(case.id for case in cases)
    problems = problems + [
        Problem(case.id, case.image.name, f"id stands {times[case.id]} times") for case in cases if times[case.id] > 1
    ]
    return [case for case in cases if times[case.id] == 1], problems
