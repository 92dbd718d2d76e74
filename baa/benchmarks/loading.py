"""`loader`, `cache`, `decoder`: time of an epoch from the cache, of building the cache, and of decoding in a process apart."""

import importlib
import io
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from baa.benchmarks.inputs import cache_films, write_films
from baa.benchmarks.pairs import Row, alternate, quotient
from baa.data.augment import Augmentation
from baa.data.datamodules import HandDataModule
from baa.data.read.decode import decode
from baa.data.read.file import ImageFile
from baa.errors import InputError
from baa.machine import usable_cores

COUNT, FILM_PX, SOURCE_PX, PX, BATCH = 64, (1500, 2000), 640, 300, 16
EPOCHS = 8
"""Epochs of baa per round: a single one is too short to time."""
CACHED_TIMES = 4
"""Copies of each film in the cache that is built. They spread the constant cost of a build over more films."""
ROUNDS = 7


class PngDataset(Dataset[Tensor]):
    """The usual data set: decode, resize and augment each file in every epoch."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.Resize((PX, PX), antialias=True),
                transforms.RandomAffine(15, translate=(0.05, 0.05), scale=(0.9, 1.1)),
                transforms.RandomHorizontalFlip(),
                transforms.ColorJitter(brightness=0.1, contrast=0.2),
                transforms.ToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.open(self.files[index]).convert("L"))


def bench(deeplasia: Path | None = None) -> list[Row]:
    """Compare a warm cache with PIL decoding in each epoch, and building the cache with decoding. Films have RSNA's size.

    Args:
        deeplasia: a checkout of github.com/aimi-bonn/Deeplasia, whose data loader reads the same films.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_films(folder, FILM_PX, COUNT)
        radiographs = cache_films(files, folder / "cache", SOURCE_PX)
        loader = HandDataModule({"train": radiographs.for_views(PX)}, batch_size=BATCH).train_dataloader()
        augment = Augmentation()

        def ours() -> None:
            for _ in range(EPOCHS):
                for batch in loader:
                    augment(batch.image.float().div_(255)).render(PX)

        def build() -> None:
            with tempfile.TemporaryDirectory() as fresh:
                cache_films(files * CACHED_TIMES, Path(fresh), SOURCE_PX)

        sides: dict[str, Callable[[], object]] = {
            "ours": ours,
            "pil": _epoch(PngDataset(files)),
            "build": build,
            "decode": lambda: _decode_all(files * CACHED_TIMES),
        }
        if deeplasia is not None:
            sides["deeplasia"] = _epoch(deeplasia_dataset(deeplasia, files))
        seconds = alternate(sides, ROUNDS)
    epoch = [second / EPOCHS for second in seconds["ours"]]
    rows = [quotient("loader", "one epoch: PIL decoding / baa", seconds["pil"], epoch, 20.0, at_least=True)]
    if deeplasia is not None:
        what = "one epoch: Deeplasia's loader / baa"
        rows.append(quotient("loader-deeplasia", what, seconds["deeplasia"], epoch, 10.0, at_least=True))
    what = "decode and resize / build the cache"
    return [*rows, quotient("cache", what, seconds["decode"], seconds["build"], 0.9, at_least=True)]


def bench_decoder() -> list[Row]:
    """Compare reading a folder of PNG films in the decoder process with decoding them in this one."""
    with tempfile.TemporaryDirectory() as name:
        files = write_films(Path(name), FILM_PX, COUNT)
        sides: dict[str, Callable[[], object]] = {
            "apart": lambda: deque((ImageFile(file).load(SOURCE_PX) for file in files), maxlen=0),
            "here": lambda: deque((decode(ImageFile(file).read(), SOURCE_PX) for file in files), maxlen=0),
        }
        seconds = alternate(sides, ROUNDS)
    return [quotient("decoder", "read films in the decoder process / here", seconds["apart"], seconds["here"], 1.05)]


def _epoch(dataset: Dataset[Any]) -> Callable[[], object]:
    """Return a function that loads all batches, with one persistent worker per core: baa uses one thread per core."""
    loader = DataLoader(dataset, batch_size=BATCH, num_workers=usable_cores(), persistent_workers=True)
    return lambda: deque(loader, maxlen=0)


def deeplasia_dataset(checkout: Path, files: list[Path]) -> Dataset[dict[str, Any]]:
    """Build Deeplasia's own training data set on these films, without masks.

    Raises:
        InputError: `checkout` is not a checkout of Deeplasia, or a package that it imports is missing.
    """
    if not (checkout / "lib" / "datasets.py").is_file():
        raise InputError(f"--deeplasia: {checkout}: not a checkout of github.com/aimi-bonn/Deeplasia")
    sys.path.insert(0, str(checkout))
    try:
        peer: Any = importlib.import_module("lib.datasets")
    except ImportError as error:
        raise InputError(f"--deeplasia: {error.name} is not installed; pip install -e '.[bench]'") from error
    finally:
        sys.path.remove(str(checkout))
    table = pd.DataFrame({"image_ID": [file.name for file in files], "dir": ".", "sex": "M", "bone_age": 100.0})
    augment = peer.HandDatamodule.get_train_augmentation(input_size=(1, PX, PX))
    return peer.HandDataset(table, img_dir=str(files[0].parent), mask_dirs=[], data_augmentation=augment)


def _decode_all(files: list[Path]) -> None:
    for file in files:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            gray = image.convert("L")
            scale = SOURCE_PX / max(gray.size)
            size = (round(gray.width * scale), round(gray.height * scale))
            torch.from_numpy(np.array(gray.resize(size, Image.Resampling.BILINEAR)))
