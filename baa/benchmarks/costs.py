"""What a part of baa costs with so many cases: seconds and peak memory of a process of its own, which prints them."""

import itertools
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch

from baa.assembly.modules import optimisation
from baa.checkpoints.provenance import lineage
from baa.checkpoints.trained_model import Restored
from baa.config.load import load, to_plain
from baa.data.augment import Augmentation
from baa.data.cache import Radiographs, open_cache
from baa.data.cases import Case
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.data.radiograph import ImageFile
from baa.inference.inputs import Asked, find_images
from baa.inference.predict import predict_files
from baa.inference.rows import Answers
from baa.machine import keep_freed_memory
from baa.metrics.coverage import COVERAGE
from baa.modules.estimator import EstimatorModule
from baa.modules.locator import LocatorModule
from baa.nets.cropper import RegionCropper
from baa.patient import Sex

SOURCE_PX, PX, BATCH = 128, 64, 16
BACKBONE = "resnet10t"
SAMPLED_EVERY_S = 0.02

Work = Callable[[], Iterator[None]]
"""A part of baa, ready to run: it yields after each batch, or once, when it is done."""

ENDED: Final = object()


def print_cost(part: str, count: int, films: str) -> None:
    """Run one part on `count` films; print its seconds and the MiB that its own memory peaked at (Linux only)."""
    keep_freed_memory()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        work = PARTS[part](_films(films, count), Path(folder))
        with _peak() as peak:
            start = time.perf_counter()
            for _ in work():
                pass
            seconds = time.perf_counter() - start
    print(seconds, peak[0])


def print_seconds(part: str, few: int, many: int, films: str) -> None:
    """Run an epoch of `many` films and, in turns with its batches, epochs of `few`; print the seconds of an epoch of each.

    A machine whose speed drifts meanwhile slows both down.
    """
    keep_freed_memory()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        small, large = (PARTS[part](_films(films, count), Path(folder) / str(count)) for count in (few, many))
        again, once = itertools.chain.from_iterable(small() for _ in itertools.count()), large()
        seconds, batches = [0.0, 0.0], 0
        while (elapsed := _seconds_of_next(once)) is not None:
            seconds = [seconds[0] + (_seconds_of_next(again) or 0.0), seconds[1] + elapsed]
            batches += 1
    print(seconds[0] * math.ceil(few / BATCH) / batches, seconds[1])


def _seconds_of_next(batches: Iterator[None]) -> float | None:
    start = time.perf_counter()
    return None if next(batches, ENDED) is ENDED else time.perf_counter() - start


def _films(folder: str, count: int) -> list[Path]:
    """So many of a folder's films, from the start again where there are fewer."""
    return list(itertools.islice(itertools.cycle(find_images([Path(folder)])), count))


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


def _build(files: list[Path], folder: Path) -> Work:
    def build() -> Iterator[None]:
        _cached(files, folder)
        yield

    return build


def _load(files: list[Path], folder: Path) -> Work:
    data = HandDataModule({"train": _cached(files, folder).for_views(PX)}, batch_size=BATCH)
    augment = Augmentation()

    def epoch() -> Iterator[None]:
        for batch in data.train_dataloader():
            augment(batch.image.float().div_(255)).view(PX)
            yield

    return epoch


def _crop(files: list[Path], folder: Path) -> Work:
    data = CropDataModule({"train": _cached(files, folder)}, _cropper(), recipe={}, batch_size=BATCH)

    def epoch() -> Iterator[None]:
        for batch in data.train_dataloader():
            data.on_after_batch_transfer(batch, 0)
            yield

    return epoch


def _step(files: list[Path], folder: Path) -> Work:
    data = CropDataModule({"train": _cached(files, folder)}, _cropper(), recipe={}, batch_size=BATCH)
    module = _estimator().train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-4)

    def epoch() -> Iterator[None]:
        for batch in data.train_dataloader():
            _, loss = module.objective(data.on_after_batch_transfer(batch, 0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield

    return epoch


def _predict(files: list[Path], folder: Path) -> Work:
    settings = to_plain(load(None, [f"data.source_px={SOURCE_PX}", f"locator.px={PX}", f"crops.px=[{PX},{PX}]"]))
    answers = Answers([Asked(file, Sex.MALE) for file in files], {}, COVERAGE, draw=None)
    restored = Restored("estimator", _estimator().eval(), _locator().net, {}, settings, lineage((), "phantom"), {})

    def predict() -> Iterator[None]:
        predict_files(restored, answers, folder, job="bench", batch_size=BATCH, workers=1, progress=False)
        yield

    return predict


PARTS: dict[str, Callable[[list[Path], Path], Work]] = {
    "cache": _build,
    "loader": _load,
    "crops": _crop,
    "step": _step,
    "predict": _predict,
}
EPOCHS = ("loader", "crops", "step")
"""Parts that go batch by batch, and can be done again; the others find their work done."""
