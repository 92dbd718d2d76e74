"""What experts have marked on radiographs: to measure by, never to train on."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from baa.data.cases import Box, Case
from baa.data.tables import read_rows
from baa.errors import InputError

CARPAL, HAND, NEITHER = "Wrist", ("MCP", "PIP", "DIP"), ("Radius", "Ulna")
"""The regions that experts have marked, by the true region that they are of."""

BEYOND = 0.05
"""Of the side: as far past the edge of the film as a mark may lie."""


def with_truth(cases: Sequence[Case], roi: Path | None, capitate: Path | None) -> list[Case]:
    """Add the expert boxes and points that stand in `roi.csv` and `capitate.csv` layout.

    `roi`: id, region, xmin, ymin, xmax, ymax as shares of the radiograph; the Wrist is the true carpal region, the union
    of MCP, PIP and DIP the true hand region. `capitate`: id, x, y.

    Raises:
        InputError: a file or a column is missing, a cell is no share of the radiograph, a box has its edges the wrong way
            round, a region is none of these, or a file speaks of none of the cases.
    """
    known = {case.id for case in cases}
    carpal: dict[str, Box] = {}
    hand: dict[str, Box] = {}
    points: dict[str, tuple[float, float]] = {}
    if roi is not None:
        for id_, region, *edges in _known_rows(roi, "data.roi", ["id", "region", "xmin", "ymin", "xmax", "ymax"], known):
            box = Box(*_shares(roi, "data.roi", id_, edges))
            if not (box.x0 < box.x1 and box.y0 < box.y1):
                raise InputError(
                    f"data.roi: {roi}, id {id_}: its {region} has no area; xmin lies before xmax, ymin before ymax"
                )
            if region == CARPAL:
                carpal[id_] = box
            elif region in HAND:
                old = hand.get(id_, box)
                low, high = map(min, old[:2], box[:2]), map(max, old[2:], box[2:])
                hand[id_] = Box(*low, *high)
            elif region not in NEITHER:
                marked = ", ".join((CARPAL, *HAND, *NEITHER))
                raise InputError(f"data.roi: {roi}, id {id_}: region {region!r} is none of {marked}")
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
    table = read_rows(file)
    if missing := set(names) - set(table.columns):
        raise InputError(f"{setting}: {file} has no column {', '.join(sorted(missing))}")
    rows = [[cell.strip() for cell in row] for row in table[names].itertuples(index=False) if any(row)]
    if rows and not any(row[0] in known for row in rows):
        raise InputError(f"{setting}: no id in {file} is one of the radiographs'; its first is {rows[0][0]!r}")
    return rows


def _shares(file: Path, setting: str, id_: str, cells: Sequence[str]) -> list[float]:
    try:
        shares = [float(cell) for cell in cells]
    except ValueError as error:
        raise InputError(f"{setting}: {file}, id {id_}: {error}") from error
    if outside := [share for share in shares if not -BEYOND <= share <= 1 + BEYOND]:
        raise InputError(f"{setting}: {file}, id {id_}: {outside[0]:g} is no share of the radiograph; give pixels / its side")
    return shares
