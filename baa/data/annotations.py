"""What experts annotated on radiographs. It serves evaluation only; training never reads it."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from baa.data.cases import Box, Case
from baa.data.tables import read_rows
from baa.errors import InputError

ANNOTATED = {"carpal": ("Wrist",), "hand": ("MCP", "PIP", "DIP")}
"""Region -> the annotated parts whose union is its box."""

IGNORED = ("Radius", "Ulna")
"""Annotated parts that belong to no region."""

TOLERANCE = 0.05
"""How far an annotation may reach beyond the edge of the radiograph, as a share of its side."""


def with_annotations(cases: Sequence[Case], roi: Path | None, capitate: Path | None) -> list[Case]:
    r"""Add annotated boxes and capitate centers to cases.

    Args:
        cases: those without an annotation stay as they are.
        roi: a CSV with columns id, region, xmin, ymin, xmax, ymax. Edges are shares of the radiograph's width and height.
        capitate: a CSV with columns id, x, y, shares too.

    Raises:
        InputError: a file or column is missing, an edge is not a share, a box has no area, a region is unknown, or no id of
            a file is one of the cases'.

    Example:
        >>> import tempfile
        >>> from baa.data.sources.phantom import phantom_cases
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     roi = Path(folder, "roi.csv")
        ...     _ = roi.write_text("id,region,xmin,ymin,xmax,ymax\nphantom-0-0,Wrist,0.25,0.5,0.75,0.875\n")
        ...     with_annotations(phantom_cases(1, seed=0), roi, None)[0].gt_boxes["carpal"]
        Box(x0=0.25, y0=0.5, x1=0.75, y1=0.875)
    """
    known = {case.id for case in cases}
    boxes = _read_boxes(roi, known) if roi is not None else {}
    points = _read_points(capitate, known) if capitate is not None else {}
    return [
        replace(
            case,
            gt_boxes=case.gt_boxes | boxes.get(case.id, {}),
            capitate=points.get(case.id, case.capitate),
        )
        for case in cases
    ]


def _read_boxes(file: Path, known: Collection[str]) -> dict[str, dict[str, Box]]:
    """Boxes by id and region."""
    boxes: dict[str, dict[str, Box]] = {}
    for id_, part, *edges in _known_rows(file, "data.roi", ["id", "region", "xmin", "ymin", "xmax", "ymax"], known):
        box = Box(*_shares(file, "data.roi", id_, edges))
        if not (box.x0 < box.x1 and box.y0 < box.y1):
            raise InputError(f"data.roi: {file}, id {id_}: {part} has no area; xmin must be below xmax, ymin below ymax")
        regions = [region for region, parts in ANNOTATED.items() if part in parts]
        if not regions and part not in IGNORED:
            parts = ", ".join((*(part for parts in ANNOTATED.values() for part in parts), *IGNORED))
            raise InputError(f"data.roi: {file}, id {id_}: region {part!r} is unknown; use one of {parts}")
        found = boxes.setdefault(id_, {})
        for region in regions:
            found[region] = _union(found.get(region, box), box)
    return boxes


def _union(a: Box, b: Box) -> Box:
    return Box(min(a.x0, b.x0), min(a.y0, b.y0), max(a.x1, b.x1), max(a.y1, b.y1))


def _read_points(file: Path, known: Collection[str]) -> dict[str, tuple[float, float]]:
    """Points (x, y) by id."""
    points = {}
    for id_, *cells in _known_rows(file, "data.capitate", ["id", "x", "y"], known):
        x, y = _shares(file, "data.capitate", id_, cells)
        points[id_] = (x, y)
    return points


def read_ids(file: Path, known: Collection[str]) -> frozenset[str]:
    """Read the `id` column of a CSV, without repetition.

    Raises:
        InputError: the file or the column is missing, or no id is known.
    """
    return frozenset(id_ for (id_,) in _known_rows(file, "data.split.test_ids", ["id"], known))


def _known_rows(file: Path, setting: str, names: list[str], known: Collection[str]) -> list[list[str]]:
    """The stripped cells of these columns, id first. Blank rows are skipped."""
    if not file.is_file():
        raise InputError(f"{setting}: {file} is not a file")
    table = read_rows(file)
    if missing := set(names) - set(table.columns):
        raise InputError(f"{setting}: {file} has no column {', '.join(sorted(missing))}")
    rows = [[cell.strip() for cell in row] for row in table[names].itertuples(index=False) if any(row)]
    if rows and not any(row[0] in known for row in rows):
        raise InputError(f"{setting}: no id in {file} belongs to a radiograph; its first id is {rows[0][0]!r}")
    return rows


def _shares(file: Path, setting: str, id_: str, cells: Sequence[str]) -> list[float]:
    try:
        shares = [float(cell) for cell in cells]
    except ValueError as error:
        raise InputError(f"{setting}: {file}, id {id_}: {error}") from error
    if outside := [share for share in shares if not -TOLERANCE <= share <= 1 + TOLERANCE]:
        raise InputError(
            f"{setting}: {file}, id {id_}: {outside[0]:g} is not a share of the radiograph's side; divide pixels by its side"
        )
    return shares
