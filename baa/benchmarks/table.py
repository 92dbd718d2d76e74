"""All benchmarks by name, and their rows as a table."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from baa.benchmarks import cropping, growing, loading, predicting, ranks, starting, stepping
from baa.benchmarks.pairs import Row
from baa.memory import keep_freed_memory


def measure(
    name: str, *, deeplasia: Path | None = None, radiographs: Path | None = None, figure: Path | None = None
) -> list[Row]:
    """The rows of one benchmark, or of `all`.

    Args:
        name: of a benchmark, or `all`.
        deeplasia: a checkout of Deeplasia, for `loader`.
        radiographs: real ones, a folder or a tar, for `growth`.
        figure: a PNG to draw, for `growth`.
    """
    keep_freed_memory()
    benchmarks: dict[str, Callable[[], list[Row]]] = {
        "crops": cropping.bench,
        "step": stepping.bench,
        "loader": partial(loading.bench, deeplasia),
        "start": starting.bench,
        "predict": predicting.bench,
        "ddp": ranks.bench,
        "growth": partial(growing.bench, radiographs, figure),
    }
    chosen = benchmarks if name == "all" else {name: benchmarks[name]}
    return [row for bench in chosen.values() for row in bench()]


def as_text(rows: list[Row]) -> str:
    """A table in Markdown."""
    lines = ["| name | what | ratio | spread | must | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        sign = ">=" if row.at_least else "<="
        spread = f"{row.low:.2f} to {row.high:.2f}"
        met = "yes" if row.met else "no"
        lines.append(f"| {row.name} | {row.what} | {row.ratio:.2f} | {spread} | {sign} {row.must:g} | {met} |")
    return "\n".join(lines)


def as_json(rows: list[Row]) -> str:
    """{name: {"ratio", "spread", "must", "met"}}."""
    said = {row.name: {"ratio": row.ratio, "spread": [row.low, row.high], "must": row.must, "met": row.met} for row in rows}
    return json.dumps(said, indent=2)
