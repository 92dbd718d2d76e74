"""Cost of one part of baa for a number of cases. Each function prints its numbers and runs in its own process."""

import itertools
import math
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from baa.assembly.modules import optimization
from baa.benchmarks.inputs import Untrained, cache_films, predict, untrained
from baa.config.schema import FitConfig
from baa.data.augment import Augmentation
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.inference.listing import find_images
from baa.machine import keep_freed_memory
from baa.modules.estimator import EstimatorModule
from baa.nets.two_stage import BoneAgeModel

SOURCE_PX, PX, BATCH = 128, 64, 16
BACKBONE = "resnet10t"
SAMPLED_EVERY_S = 0.02
ENDED: Final = object()

Work = Callable[[], Iterator[object]]
"""A part of baa, ready to run. Each item of the iterator is the work on one batch, or all of it."""


def print_cost(part: str, count: int, films: str) -> None:
    """Run one part on `count` films. Print its seconds and the peak memory of its process in MiB (Linux only)."""
    with _ready(part, films, count) as (work,), _peak() as peak:
        start = time.perf_counter()
        deque(work(), maxlen=0)  # runs all of it and keeps no item
        seconds = time.perf_counter() - start
    print(seconds, peak[0])


def print_seconds(part: str, few: int, many: int, films: str) -> None:
    """Print the seconds of an epoch of `few` films and of an epoch of `many`.

    Each batch of the long epoch is followed by a batch of a short one, so that a slower machine slows both down.
    """
    with _ready(part, films, few, many) as (small, large):
        short, long = itertools.chain.from_iterable(small() for _ in itertools.count()), large()
        seconds, batches = [0.0, 0.0], 0
        while (elapsed := _seconds_of_next(long)) is not None:
            seconds = [seconds[0] + (_seconds_of_next(short) or 0.0), seconds[1] + elapsed]
            batches += 1
    print(seconds[0] * math.ceil(few / BATCH) / batches, seconds[1])


@contextmanager
def _ready(part: str, films: str, *counts: int) -> Iterator[list[Work]]:
    """Prepare a part for each count of films, in a temporary folder."""
    keep_freed_memory()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        yield [PARTS[part](_films(films, count), Path(folder) / str(count)) for count in counts]


def _seconds_of_next(batches: Iterator[object]) -> float | None:
    start = time.perf_counter()
    return None if next(batches, ENDED) is ENDED else time.perf_counter() - start


def _films(folder: str, count: int) -> list[Path]:
    """Return `count` films of a folder, repeated if it has fewer."""
    return list(itertools.islice(itertools.cycle(find_images([Path(folder)]).files), count))


@contextmanager
def _peak() -> Iterator[list[float]]:
    """Measure the peak anonymous memory of the process and its loaders in MiB. The system may drop pages of mapped files."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        last = False
        while not last:
            last = done.wait(SAMPLED_EVERY_S)
            peak[0] = max(peak[0], sum(map(_anonymous_kib, _family(os.getpid()))) / 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


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


def _small() -> Untrained:
    sides = [f"{key}.px={PX}" for key in ("locator", "crops.carpal", "crops.hand")]
    backbones = [f"{key}.name={BACKBONE}" for key in ("locator.backbone", "estimator.carpal", "estimator.hand")]
    return untrained([f"data.source_px={SOURCE_PX}", "estimator.carpal.conv_pool=false", *sides, *backbones])


def _cache(files: list[Path], folder: Path) -> Work:
    return lambda: map(partial(cache_films, folder=folder, px=SOURCE_PX), [files])


def _loader(files: list[Path], folder: Path) -> Work:
    data = HandDataModule({"train": cache_films(files, folder, SOURCE_PX).for_views(PX)}, batch_size=BATCH)
    augment = Augmentation()
    return lambda: (augment(batch.image.float().div_(255)).render(PX) for batch in data.train_dataloader())


def _crops(files: list[Path], folder: Path) -> Work:
    data = CropDataModule({"train": cache_films(files, folder, SOURCE_PX)}, _small().cropper, batch_size=BATCH)
    return lambda: (data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader())


def _step(files: list[Path], folder: Path) -> Work:
    batches = _crops(files, folder)
    module = EstimatorModule(BoneAgeModel(None, _small().estimator), **optimization(FitConfig())).train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-4)

    def step(batch: Any) -> None:
        _, loss = module.objective(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return lambda: map(step, batches())


def _predict(files: list[Path], folder: Path) -> Work:
    model = _small().model
    return lambda: map(partial(predict, model, folder=folder, batch_size=BATCH), [files])


PARTS: dict[str, Callable[[list[Path], Path], Work]] = {
    "cache": _cache,
    "loader": _loader,
    "crops": _crops,
    "step": _step,
    "predict": _predict,
}
EPOCHS = ("loader", "crops", "step")
"""Parts that run in batches and can be repeated. `cache` and `predict` find their work done."""
