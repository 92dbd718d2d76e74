"""All benchmarks by name, and their rows as a table."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from baa.benchmarks import cropping, growing, loading, predicting, ranks, starting, stepping
from baa.benchmarks.costs import PARTS
from baa.benchmarks.pairs import Row

HEAD = "| name | what | ratio | spread | must | met |\n|---|---|---|---|---|---|"


def benchmarks(
    *,
    deeplasia: Path | None = None,
    radiographs: Path | None = None,
    figure: Path | None = None,
    parts: Sequence[str] = tuple(PARTS),
) -> dict[str, Callable[[], Iterable[Row]]]:
    """What measures the rows, by name, in the order of a whole table.

    Args:
        deeplasia: a checkout of Deeplasia, for `loader`.
        radiographs: real ones, a folder or a tar, for `growth`.
        figure: a PNG to draw, for `growth`.
        parts: whose growth.
    """
    return {
        "crops": cropping.bench,
        "step": stepping.bench,
        "loader": partial(loading.bench, deeplasia),
        "start": starting.bench,
        "predict": predicting.bench,
        "ddp": ranks.bench,
        "growth": partial(growing.bench, radiographs, figure, parts),
    }


def as_line(row: Row) -> str:
    """A row of a table in Markdown."""
    sign, met = ">=" if row.at_least else "<=", "yes" if row.met else "no"
    return f"| {row.name} | {row.what} | {row.ratio:.2f} | {row.low:.2f} to {row.high:.2f} | {sign} {row.must:g} | {met} |"


def as_json(rows: list[Row]) -> str:
    """{name: {"ratio", "spread", "must", "met"}}."""
    said = {row.name: {"ratio": row.ratio, "spread": [row.low, row.high], "must": row.must, "met": row.met} for row in rows}
    return json.dumps(said, indent=2)
