"""`growth`: time and memory of cache, loader, crops, step and predict as the cases become many."""

import itertools
import math
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from baa.benchmarks.costs import EPOCHS, PARTS
from baa.benchmarks.loading import write_films
from baa.benchmarks.pairs import Row
from baa.errors import InputError
from baa.inference.inputs import find_images
from baa.plots.figures import save

COUNTS = (100, 1_000, 10_000)
MANY = 100_000
"""Files that `predict` reads besides; no other part is asked for as many."""

FILM_PX = (120, 160)
STEEPEST, STEEPEST_MEMORY = 1.05, 0.05


class Cost(NamedTuple):
    """What something took with so many cases."""

    cases: int
    seconds: float
    mebibytes: float


def bench(radiographs: Path | None = None, figure: Path | None = None, parts: Sequence[str] = tuple(PARTS)) -> Iterator[Row]:
    """Slopes in a log-log plot: between each count of cases and the next, in time and in memory.

    Small radiographs and small networks: what is asked is how cost grows, not how high it is. Each part and count has a
    process of its own, whose start is not counted. A machine whose speed drifts must not look like growth: of each two counts
    the smaller is measured before and after the larger or, where both go batch by batch, in turns with it.

    Args:
        radiographs: a folder of image files, or a tar of them, to grow on besides phantoms.
        figure: where to draw what was measured.
        parts: which ones.

    Raises:
        InputError: `radiographs` is neither, or too few to tell how cost grows.
    """
    phantoms: dict[str, list[Step]] = {}
    real: dict[str, list[Step]] = {}
    with tempfile.TemporaryDirectory() as name:
        films = Path(name) / "phantoms"
        films.mkdir()
        found = None if radiographs is None else _unpacked(radiographs, Path(name) / "radiographs")
        write_films(films, FILM_PX, max(COUNTS))
        for part in parts:
            phantoms[part] = _steps(part, (*COUNTS, *([MANY] if part == "predict" else [])), films)
            yield from _slopes(part, "", phantoms[part])
        if found is not None:
            total = len(find_images([found]))
            counts = [*(count for count in COUNTS if count <= total / 2), total]
            for part in parts:
                real[part] = _steps(part, counts, found)
                yield from _slopes(part, "-real", real[part])
    if figure is not None:
        save(growth_figure(_costs(phantoms), _costs(real)), figure)


def _unpacked(radiographs: Path, folder: Path) -> Path:
    if radiographs.is_file():
        try:
            with tarfile.open(radiographs) as archive:
                archive.extractall(folder, filter="data")
        except tarfile.TarError as error:
            raise InputError(f"--radiographs: {radiographs} is no tar ({error}); give a folder of images, or a tar") from error
        radiographs = folder
    if not radiographs.is_dir():
        raise InputError(f"--radiographs: {radiographs} is not there; give a folder of images, or a tar of them")
    if (count := len(find_images([radiographs]))) < 2 * min(COUNTS):
        raise InputError(f"--radiographs: {radiographs} holds {count} images; growth needs at least {2 * min(COUNTS)}")
    return radiographs


class Step(NamedTuple):
    """What a count of cases costs, and what the next one costs, measured side by side."""

    small: Cost
    large: Cost


def _steps(part: str, counts: Sequence[int], films: Path) -> list[Step]:
    return [_side_by_side(part, few, many, films) for few, many in itertools.pairwise(counts)]


def _side_by_side(part: str, few: int, many: int, films: Path) -> Step:
    if part in EPOCHS:
        (_, small), (_, large) = (_printed("print_cost", part, count, films) for count in (few, many))
        seconds = _printed("print_seconds", part, few, many, films)
    else:
        (before, small), (late, large), (after, _) = (_printed("print_cost", part, n, films) for n in (few, many, few))
        seconds = (before + after) / 2, late
    return Step(Cost(few, seconds[0], small), Cost(many, seconds[1], large))


def _printed(function: str, part: str, *arguments: int | Path) -> tuple[float, float]:
    """The two numbers that a function of `costs` prints, in a process of its own."""
    given = ", ".join(repr(str(argument) if isinstance(argument, Path) else argument) for argument in (part, *arguments))
    code = f"from baa.benchmarks.costs import {function}; {function}({given})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    first, second = map(float, done.stdout.split()[-2:])
    return first, second


def _costs(steps: Mapping[str, list[Step]]) -> dict[str, list[Cost]]:
    return {part: [of[0].small, *(step.large for step in of)] for part, of in steps.items()}


def _slopes(part: str, what: str, steps: list[Step]) -> Iterator[Row]:
    grown = [math.log(b.cases / a.cases) for a, b in steps]
    time_ = [math.log(b.seconds / a.seconds) / ln for (a, b), ln in zip(steps, grown, strict=True)]
    memory = [math.log(b.mebibytes / a.mebibytes) / ln for (a, b), ln in zip(steps, grown, strict=True)]
    first, last = steps[0].small, steps[-1].large
    told = f"{last.seconds / last.cases * 1e3:.1f} ms a case"
    yield Row(f"growth-{part}{what}", f"slope of the time of {part} ({told})", max(time_), min(time_), max(time_), STEEPEST)
    told = f"{first.mebibytes:.0f} MiB at {first.cases:,}, {last.mebibytes:.0f} at {last.cases:,}"
    said = f"slope of the memory of {part} ({told})"
    yield Row(f"growth-{part}{what}-memory", said, max(memory), min(memory), max(memory), STEEPEST_MEMORY)


def growth_figure(phantoms: Mapping[str, Sequence[Cost]], radiographs: Mapping[str, Sequence[Cost]]) -> Figure:
    """Seconds and peak memory over the number of cases, both logarithmic: a colour for each part, radiographs dashed."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for costs, line, suffix in ((phantoms, "-", ""), (radiographs, "--", ", radiographs")):
        for i, (part, measured) in enumerate(costs.items()):
            cases, style = [cost.cases for cost in measured], {"marker": ".", "color": f"C{i}", "linestyle": line}
            left.plot(cases, [cost.seconds for cost in measured], label=part + suffix, **style)
            right.plot(cases, [cost.mebibytes for cost in measured], **style)
    left.set(xlabel="cases", ylabel="seconds", xscale="log", yscale="log", title="time")
    right.set(xlabel="cases", ylabel="peak memory (MiB)", xscale="log", yscale="log", title="memory", ylim=(10, 10_000))
    left.legend(fontsize="small", loc="upper left")
    return figure
