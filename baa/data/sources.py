"""Where cases come from: the RSNA challenge's layout, any table. (The third source is `baa.data.phantom`.)"""

import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import pandas as pd

from baa.data.cases import Box, Case, Problem, parse_months, parse_sex
from baa.data.radiograph import ImageFile
from baa.errors import InputError
from baa.nets.fusion import Sex

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
WORKBOOK = ".xlsx"
TABLE_SUFFIXES = (".csv", WORKBOOK)
OPEN_WORKBOOK = "~$"
"""How the name begins of what Excel leaves beside a workbook while it is open."""

MONTHS_PER_UNIT = {"months": 1.0, "years": 12.0, "days": 12.0 / 365.25}


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
        table = _read_rows(file)
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
    table = pd.read_parquet(file).astype(str) if file.suffix == ".parquet" else _read_rows(file)
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
            months_per_unit=MONTHS_PER_UNIT[age_unit],
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
            sex = parse_sex(row["sex"]) if "sex" in row else Sex.UNKNOWN
            image = image_of(row)
            if image is None:
                raise ValueError(f"its image {row.get('image') or row['id'] + '.*'} is missing")
        except ValueError as error:
            problems.append(Problem(row["id"], place, str(error)))
            continue
        cases.append(Case(row["id"].strip(), image, months, sex, row.get("split") or None))
    return cases, problems


def _read_rows(file: Path) -> pd.DataFrame:
    """The cells of a CSV or of a workbook's first sheet, as they are written."""
    try:
        if file.suffix.lower() == WORKBOOK:
            table = pd.read_excel(file, dtype=str, keep_default_na=False)
        else:
            as_it_is: dict[str, Any] = {"keep_default_na": False, "skip_blank_lines": False}  # so that lines can be told
            table = pd.read_csv(file, dtype=str, skipinitialspace=True, **as_it_is)
    except (ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{file} is not a table that can be read: {error}") from error
    return table.rename(columns=lambda name: str(name).strip())


def index_images(root: Path) -> dict[str, list[ImageFile]]:
    """Every image below a folder by its stem, those inside tars too where no loose file has the stem."""
    packed: dict[str, list[ImageFile]] = {}
    loose: dict[str, list[ImageFile]] = {}
    for tar in sorted(root.rglob("*.tar")):
        try:
            with tarfile.open(tar) as archive:
                for member in archive:
                    if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                        stem = Path(member.name).stem
                        packed.setdefault(stem, []).append(ImageFile(tar, member.offset_data, member.size, member.name))
        except tarfile.TarError as error:
            raise InputError(f"{tar} is not a whole tar: {error}") from error
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            loose.setdefault(path.stem, []).append(ImageFile(path))
    return packed | loose


def drop_duplicates(cases: list[Case], problems: list[Problem]) -> CaseList:
    """Set every case aside whose id is not its own: which of the rows is right, nobody can tell."""
    times = Counter(case.id for case in cases)
    problems = problems + [
        Problem(case.id, case.image.name, f"id stands {times[case.id]} times") for case in cases if times[case.id] > 1
    ]
    return [case for case in cases if times[case.id] == 1], problems


def with_truth(cases: Sequence[Case], roi: Path | None, capitate: Path | None) -> list[Case]:
    """Add the expert boxes and points that stand in `roi.csv` and `capitate.csv` layout.

    `roi`: id, region, xmin, ymin, xmax, ymax as shares of the radiograph; the Wrist is the true carpal region, the union
    of MCP, PIP and DIP the true hand region. `capitate`: id, x, y.

    Raises:
        InputError: a file or a column is missing, a cell is no number, or a file speaks of none of the cases.
    """
    known = {case.id for case in cases}
    carpal: dict[str, Box] = {}
    hand: dict[str, Box] = {}
    points: dict[str, tuple[float, float]] = {}
    if roi is not None:
        for id_, region, *edges in _known_rows(roi, "data.roi", ["id", "region", "xmin", "ymin", "xmax", "ymax"], known):
            box = Box(*_shares(roi, "data.roi", id_, edges))
            if region == "Wrist":
                carpal[id_] = box
            elif region in ("MCP", "PIP", "DIP"):
                old = hand.get(id_, box)
                low, high = map(min, old[:2], box[:2]), map(max, old[2:], box[2:])
                hand[id_] = Box(*low, *high)
    if capitate is not None:
        for id_, *point in _known_rows(capitate, "data.capitate", ["id", "x", "y"], known):
            x, y = _shares(capitate, "data.capitate", id_, point)
            points[id_] = (x, y)
    return [
        replace(
            case,
            carpal=carpal.get(case.id, case.carpal),
            hand=hand.get(case.id, case.hand),
            capitate=points.get(case.id, case.capitate),
        )
        for case in cases
    ]


def read_ids(file: Path, known: Collection[str]) -> frozenset[str]:
    """The ids in a CSV's `id` column, each once.

    Raises:
        InputError: no such file or column, or none of the ids is known.
    """
    return frozenset(id_ for (id_,) in _known_rows(file, "data.split.test_ids", ["id"], known))


def _known_rows(file: Path, setting: str, names: list[str], known: Collection[str]) -> list[list[str]]:
    """The cells of these columns, the id first."""
    if not file.is_file():
        raise InputError(f"{setting}: {file} is not a file")
    table = _read_rows(file)
    if missing := set(names) - set(table.columns):
        raise InputError(f"{setting}: {file} has no column {', '.join(sorted(missing))}")
    rows = [[cell.strip() for cell in row] for row in table[names].itertuples(index=False) if any(row)]
    if rows and not any(row[0] in known for row in rows):
        raise InputError(f"{setting}: no id in {file} is one of the radiographs'; its first is {rows[0][0]!r}")
    return rows


def _shares(file: Path, setting: str, id_: str, cells: Sequence[str]) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError as error:
        raise InputError(f"{setting}: {file}, id {id_}: {error}") from error
