"""All benchmarks by name, and their rows as Markdown or JSON."""

import json
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

from baa.benchmarks import counts, cropping, growing, loading, predicting, ranks, starting, stepping
from baa.benchmarks.costs import PARTS
from baa.benchmarks.pairs import Row

HEAD = "| name | what | ratio | spread | must | met |\n|---|---|---|---|---|---|"


def benchmarks(
    deeplasia: Path | None = None, radiographs: Path | None = None, figure: Path | None = None, parts: Collection[str] = PARTS
) -> dict[str, Callable[[], Iterable[Row]]]:
    """Return the benchmarks by name, in the order in which `all` runs them. Arguments: see `loading` and `growing`."""
    return {
        "crops": cropping.bench,
        "step": stepping.bench,
        "loader": partial(loading.bench, deeplasia),
        "decoder": loading.bench_decoder,
        "start": starting.bench,
        "counts": counts.bench,
        "predict": predicting.bench,
        "ddp": ranks.bench,
        "growth": partial(growing.bench, radiographs, figure, parts),
    }


def as_line(row: Row) -> str:
    """Format a row as a line of a Markdown table."""
    sign, met = ">=" if row.at_least else "<=", "yes" if row.met else "no"
    return f"| {row.name} | {row.what} | {row.ratio:.2f} | {row.low:.2f} to {row.high:.2f} | {sign} {row.must:g} | {met} |"


def as_json(rows: list[Row]) -> str:
    """Format rows as {name: {"ratio", "spread", "must", "met"}}."""
    table = {row.name: {"ratio": row.ratio, "spread": [row.low, row.high], "must": row.must, "met": row.met} for row in rows}
    return json.dumps(table, indent=2)
