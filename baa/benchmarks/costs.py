"""What a part of baa costs with so many cases: seconds and peak memory of a process of its own, which prints them."""

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from baa.config import load, to_plain
from baa.data.augment import Augmentation
from baa.data.cache import Radiographs, open_cache
from baa.data.cases import Case
from baa.data.files import find_images
from baa.data.modules import CropDataModule, HandDataModule
from baa.data.radiograph import ImageFile
from baa.memory import keep_freed_memory
from baa.nets.fusion import Sex
from baa.nets.regions import RegionCropper
from baa.training.lineage import lineage
from baa.training.modules import EstimatorModule, LocatorModule
from baa.training.networks import optimisation
from baa.training.prediction import predict_files
from baa.training.restored import Restored

SOURCE_PX, PX, BATCH = 128, 64, 16
BACKBONE = "resnet10t"
SAMPLED_EVERY_S = 0.02


def print_cost(part: str, count: int, films: str, passes: int = 1) -> None:
    """Run one part on `count` films, from the start again where there are fewer; print the seconds of a pass and the MiB that
    its own memory peaked at (Linux only)."""
    keep_freed_memory()
    torch.manual_seed(0)
    files = list(itertools.islice(itertools.cycle(find_images([Path(films)])), count))
    with tempfile.TemporaryDirectory() as folder:
        work = PARTS[part](files, Path(folder))
        with _peak() as peak:
            start = time.perf_counter()
            for _ in range(passes):
                work()
            seconds = (time.perf_counter() - start) / passes
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
    restored = Restored("estimator", _estimator().eval(), _locator().net, {}, settings, lineage((), "phantom"))
    return lambda: predict_files(restored, files, Sex.MALE, folder, batch_size=BATCH, workers=1, progress=False)


PARTS: dict[str, Callable[[list[Path], Path], Callable[[], object]]] = {
    "cache": _build,
    "loader": _load,
    "crops": _crop,
    "step": _step,
    "predict": _predict,
}
REPEATABLE = ("loader", "crops", "step")
"""What is an epoch; the others find their work done when they are asked again."""
