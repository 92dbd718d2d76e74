"""`growth`: time and memory of cache, loader, crops, step and predict as the cases become many."""

import itertools
import math
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from baa.benchmarks.loading import write_films
from baa.benchmarks.pairs import Row
from baa.config import load, to_plain
from baa.data.augment import Augmentation
from baa.data.cache import Radiographs, open_cache
from baa.data.cases import Case
from baa.data.files import find_images
from baa.data.modules import CropDataModule, HandDataModule
from baa.data.radiograph import ImageFile
from baa.errors import InputError
from baa.memory import keep_freed_memory
from baa.nets.fusion import Sex
from baa.nets.regions import RegionCropper
from baa.report.figures import Cost, growth_figure, save
from baa.training.checkpoints import Restored
from baa.training.modules import EstimatorModule, LocatorModule
from baa.training.networks import optimisation
from baa.training.prediction import predict_files

COUNTS = (100, 1_000, 10_000)
MANY = 100_000
"""Files that `predict` reads besides; no other part is asked for as many."""

FILM_PX, SOURCE_PX, PX, BATCH = (120, 160), 128, 64, 16
BACKBONE = "resnet10t"
STEEPEST, STEEPEST_MEMORY = 1.05, 0.05
SAMPLED_EVERY_S = 0.02


def bench(radiographs: Path | None = None, figure: Path | None = None) -> Iterator[Row]:
    """Slopes in a log-log plot: between each count of cases and the next, in time and in memory.

    Small radiographs and small networks: what is asked is how cost grows, not how high it is. Each part and count has a
    process of its own, whose start is not counted. Of each two counts the smaller is measured before and after the larger: a
    machine whose speed drifts meanwhile does not look like growth.

    Args:
        radiographs: a folder of image files, or a tar of them, to grow on besides phantoms.
        figure: where to draw what was measured.

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
        for part in PARTS:
            phantoms[part] = _steps(part, (*COUNTS, *([MANY] if part == "predict" else [])), films)
            yield from _slopes(part, "", phantoms[part])
        if found is not None:
            total = len(find_images([found]))
            counts = [*(count for count in COUNTS if count <= total / 2), total]
            for part in PARTS:
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
    """What a count of cases costs, measured before and after a larger one, and what that costs."""

    small: Cost
    large: Cost


def _steps(part: str, counts: Sequence[int], films: Path) -> list[Step]:
    steps = []
    for few, many in itertools.pairwise(counts):
        before, large, after = (_cost(part, count, films) for count in (few, many, few))
        seconds, mebibytes = (before.seconds + after.seconds) / 2, (before.mebibytes + after.mebibytes) / 2
        steps.append(Step(Cost(few, seconds, mebibytes), large))
    return steps


def _costs(steps: Mapping[str, list[Step]]) -> dict[str, list[Cost]]:
    return {part: [of[0].small, *(step.large for step in of)] for part, of in steps.items()}


def _cost(part: str, count: int, films: Path) -> Cost:
    code = f"from baa.benchmarks.growing import print_cost; print_cost({part!r}, {count}, {str(films)!r})"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    seconds, mebibytes = map(float, done.stdout.split()[-2:])
    return Cost(count, seconds, mebibytes)


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


def print_cost(part: str, count: int, films: str) -> None:
    """Run one part on `count` films, from the start again where there are fewer; print its seconds and the MiB that its own
    memory peaked at (Linux only)."""
    keep_freed_memory()
    torch.manual_seed(0)
    files = list(itertools.islice(itertools.cycle(find_images([Path(films)])), count))
    with tempfile.TemporaryDirectory() as folder:
        work = PARTS[part](files, Path(folder))
        with _peak() as peak:
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
    print(seconds, peak[0])  # noqa: T201


@contextmanager
def _peak() -> Iterator[list[float]]:
    """The highest anonymous memory of the process and its loaders in MiB: pages of a mapped file are the system's to drop."""
    peak, done = [0.0], threading.Event()

    def sample() -> None:
        peak[0] = max(peak[0], sum(map(_anonymous_kib, _family(os.getpid()))) / 1024)

    def watch() -> None:
        while not done.wait(SAMPLED_EVERY_S):
            sample()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        sample()  # what was over sooner than the first sample


def _family(process: int) -> Iterator[int]:
    yield process
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def _anonymous_kib(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # a loader that has just ended
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0)


def _cases(files: list[Path]) -> list[Case]:
    return [Case(id=file.stem, image=ImageFile(file), months=100.0, sex=Sex.MALE) for file in files]


def _cached(files: list[Path], folder: Path) -> Radiographs:
    return open_cache(_cases(files), folder=folder / "cache", px=SOURCE_PX, workers=1)


def _locator() -> LocatorModule:
    config = load(None)
    return LocatorModule({"backbone": BACKBONE, "px": PX}, optimisation(config.locator.fit)).eval()


def _cropper() -> RegionCropper:
    return RegionCropper(_locator().net, px=(PX, PX))


def _estimator() -> EstimatorModule:
    net = {"backbones": {"carpal": BACKBONE, "hand": BACKBONE}, "conv_pool": []}
    return EstimatorModule(net, optimisation(load(None).estimator.fit))


def _build(files: list[Path], folder: Path) -> Callable[[], object]:
    return lambda: _cached(files, folder)


def _load(files: list[Path], folder: Path) -> Callable[[], object]:
    data = HandDataModule({"train": _cached(files, folder).for_views(PX)}, batch_size=BATCH)
    augment = Augmentation()

    def epoch() -> None:
        for batch in data.train_dataloader():
            augment(batch.image.float().div_(255)).view(PX)

    return epoch


def _crop(files: list[Path], folder: Path) -> Callable[[], object]:
    data = CropDataModule({"train": _cached(files, folder)}, _cropper(), recipe={}, batch_size=BATCH)

    def epoch() -> None:
        for batch in data.train_dataloader():
            data.on_after_batch_transfer(batch, 0)

    return epoch


def _step(files: list[Path], folder: Path) -> Callable[[], object]:
    data = CropDataModule({"train": _cached(files, folder)}, _cropper(), recipe={}, batch_size=BATCH)
    module = _estimator().train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-4)

    def epoch() -> None:
        for batch in data.train_dataloader():
            _, loss = module.objective(data.on_after_batch_transfer(batch, 0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def _predict(files: list[Path], folder: Path) -> Callable[[], object]:
    settings = to_plain(load(None, [f"data.source_px={SOURCE_PX}", f"locator.px={PX}", f"crops.px=[{PX},{PX}]"]))
    restored = Restored("estimator", _estimator().eval(), _locator().net, {}, settings, frozenset())
    return lambda: predict_files(restored, files, Sex.MALE, folder, batch_size=BATCH, workers=1, progress=False)


PARTS: dict[str, Callable[[list[Path], Path], Callable[[], object]]] = {
    "cache": _build,
    "loader": _load,
    "crops": _crop,
    "step": _step,
    "predict": _predict,
}
