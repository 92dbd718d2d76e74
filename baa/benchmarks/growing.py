"""`growth`: how time and memory of cache, loader, crops, step and predict grow with the number of cases."""

import itertools
import math
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from baa.benchmarks import costs
from baa.benchmarks.costs import EPOCHS, PARTS
from baa.benchmarks.inputs import write_films
from baa.benchmarks.pairs import Row
from baa.benchmarks.processes import printed_numbers
from baa.errors import InputError
from baa.inference.listing import find_images
from baa.plots.figures import save

COUNTS = (100, 1_000, 10_000)
MANY = 100_000
"""One more count of phantoms, for `predict` only."""

FILM_PX = (120, 160)
STEEPEST, STEEPEST_MEMORY = 1.05, 0.05


class Cost(NamedTuple):
    """Time and peak memory for a number of cases."""

    cases: int
    seconds: float
    mebibytes: float


class Step(NamedTuple):
    """The costs of one count of cases and of the next, measured together."""

    small: Cost
    large: Cost


def bench(radiographs: Path | None = None, figure: Path | None = None, parts: Collection[str] = PARTS) -> Iterator[Row]:
    """Yield slopes in a log-log plot, between each count of cases and the next, of time and of memory.

    Images and networks are small, because only the growth matters. Each part and count runs in a new process; its start is not
    counted. To separate growth from drift of the machine, the smaller count is measured before and after the larger one, or
    batch by batch in turns with it.

    Args:
        radiographs: a folder or a tar of image files, measured after the phantoms.
        figure: a PNG file for the plot.
        parts: names of `costs.PARTS`.

    Raises:
        InputError: `radiographs` is not a folder or a tar, or has too few images.
    """
    measured: dict[tuple[str, str], list[Step]] = {}
    with tempfile.TemporaryDirectory() as name:
        phantoms = Path(name) / "phantoms"
        phantoms.mkdir()
        sets: list[tuple[str, Path, tuple[int, ...]]] = [("", phantoms, COUNTS)]
        if radiographs is not None:
            folder, total = _images(radiographs, Path(name) / "radiographs")
            sets.append(("-real", folder, (*(count for count in COUNTS if count <= total / 2), total)))
        write_films(phantoms, FILM_PX, max(COUNTS))
        for (suffix, films, counts), part in itertools.product(sets, parts):
            more = [MANY] if part == "predict" and films == phantoms else []
            measured[part, suffix] = _steps(part, (*counts, *more), films)
            yield from _slopes(part, suffix, measured[part, suffix])
    if figure is not None:
        save(growth_figure(measured), figure)


def _images(radiographs: Path, folder: Path) -> tuple[Path, int]:
    """Unpack a tar into `folder`. Return the folder of the images and their number."""
    if radiographs.is_file():
        try:
            with tarfile.open(radiographs) as archive:
                archive.extractall(folder, filter="data")
        except tarfile.TarError as error:
            raise InputError(f"--radiographs: {radiographs}: not a tar ({error}); give a folder or a tar of images") from error
        radiographs = folder
    if not radiographs.is_dir():
        raise InputError(f"--radiographs: {radiographs}: no such file or folder; give a folder or a tar of images")
    if (count := len(find_images([radiographs]).files)) < 2 * min(COUNTS):
        raise InputError(f"--radiographs: {radiographs}: {count} images; growth needs at least {2 * min(COUNTS)}")
    return radiographs, count


def _steps(part: str, counts: Sequence[int], films: Path) -> list[Step]:
    return [_side_by_side(part, few, many, films) for few, many in itertools.pairwise(counts)]


def _side_by_side(part: str, few: int, many: int, films: Path) -> Step:
    (before, small), (late, large) = (_printed(costs.print_cost, part, count, films) for count in (few, many))
    if part in EPOCHS:
        early, late = _printed(costs.print_seconds, part, few, many, films)
    else:
        after, _ = _printed(costs.print_cost, part, few, films)
        early = (before + after) / 2
    return Step(Cost(few, early, small), Cost(many, late, large))


def _printed(function: Callable[..., None], part: str, *arguments: int | Path) -> tuple[float, float]:
    first, second = printed_numbers(function, part, *(str(given) if isinstance(given, Path) else given for given in arguments))
    return first, second


def _slopes(part: str, suffix: str, steps: list[Step]) -> Iterator[Row]:
    first, last = steps[0].small, steps[-1].large

    def row(kind: str, what: str, quantity: Callable[[Cost], float], must: float) -> Row:
        slopes = [math.log(quantity(b) / quantity(a)) / math.log(b.cases / a.cases) for a, b in steps]
        return Row(f"growth-{part}{suffix}{kind}", f"slope of {what}", max(slopes), min(slopes), max(slopes), must)

    per_case = f"{last.seconds / last.cases * 1e3:.1f} ms per case"
    yield row("", f"the time of {part} ({per_case})", lambda cost: cost.seconds, STEEPEST)
    peaks = f"{first.mebibytes:.0f} MiB at {first.cases:,}, {last.mebibytes:.0f} MiB at {last.cases:,}"
    yield row("-memory", f"the memory of {part} ({peaks})", lambda cost: cost.mebibytes, STEEPEST_MEMORY)


def growth_figure(measured: Mapping[tuple[str, str], Sequence[Step]]) -> Figure:
    """Plot seconds and peak memory over the number of cases, on log axes. One color per part, dashed lines for radiographs.

    Args:
        measured: steps by part and suffix (`-real` for radiographs).
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (part, suffix), steps in measured.items():
        cases, seconds, mebibytes = zip(steps[0].small, *(step.large for step in steps), strict=True)
        style = {"marker": ".", "color": f"C{list(PARTS).index(part)}", "linestyle": "--" if suffix else "-"}
        left.plot(cases, seconds, label=f"{part}, radiographs" if suffix else part, **style)
        right.plot(cases, mebibytes, **style)
    left.set(xlabel="cases", ylabel="seconds", xscale="log", yscale="log", title="time")
    right.set(xlabel="cases", ylabel="peak memory (MiB)", xscale="log", yscale="log", title="memory", ylim=(10, 10_000))
    left.legend(fontsize="small", loc="upper left")
    return figure
