"""`loader` and `cache`: an epoch of batches ready on the device, and the one-time cost of making that fast."""

import functools
import importlib
import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from baa.benchmarks.pairs import Row, alternate, quotient
from baa.data.augment import Augmentation
from baa.data.cache import open_cache
from baa.data.cases import Case
from baa.data.datamodules import HandDataModule
from baa.data.radiograph import ImageFile
from baa.data.sources.phantom.phantom import phantom_cases
from baa.errors import InputError
from baa.machine import usable_cores
from baa.patient import Sex

COUNT, FILM_PX, SOURCE_PX, PX, BATCH = 64, (1500, 2000), 640, 300, 16
EPOCHS = 8
"""Of ours in a round: one is over before a clock of this machine has settled."""
CACHED_TIMES = 4
"""How often each film goes into a cache that is built: what a build costs once does not count for every film of a real one."""
ROUNDS = 7


class PngDataset(Dataset[Tensor]):
    """What most code does: decode, shrink and augment each file anew in every epoch."""

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
    """Films of the size that RSNA released, decoded each epoch by PIL, against ours from a warm cache; building that cache.

    Args:
        deeplasia: a checkout of github.com/aimi-bonn/Deeplasia, whose loader then reads the same films too.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_films(folder, FILM_PX)
        cases = [Case(id=file.stem, image=ImageFile(file), months=100.0, sex=Sex.UNKNOWN) for file in files]
        radiographs = open_cache(cases, folder=folder / "cache", px=SOURCE_PX, workers=1)
        loader = HandDataModule({"train": radiographs.for_views(PX)}, batch_size=BATCH).train_dataloader()
        augment = Augmentation()
        plain = _loader_of_all_cores(PngDataset(files))

        def ours() -> None:
            for _ in range(EPOCHS):
                for batch in loader:
                    augment(batch.image.float().div_(255)).view(PX)

        def theirs() -> None:
            for _ in plain:
                pass

        many = [replace(case, id=f"{case.id} again {i}") for i in range(CACHED_TIMES) for case in cases]

        def build() -> None:
            with tempfile.TemporaryDirectory() as fresh:
                open_cache(many, folder=Path(fresh), px=SOURCE_PX, workers=1)

        sides: dict[str, Callable[[], object]] = {
            "ours": ours,
            "pil": theirs,
            "build": build,
            "decode": functools.partial(_decode_all, files * CACHED_TIMES),
        }
        if deeplasia is not None:
            peer = _loader_of_all_cores(deeplasia_dataset(deeplasia, files))
            sides["deeplasia"] = lambda: [batch["x"] for batch in peer]
        seconds = alternate(sides, ROUNDS)
    epoch = [second / EPOCHS for second in seconds["ours"]]
    rows = [quotient("loader", "PIL decode each epoch / ours, one epoch", seconds["pil"], epoch, 20.0, at_least=True)]
    if deeplasia is not None:
        what = "Deeplasia's loader / ours, one epoch"
        rows.append(quotient("loader-deeplasia", what, seconds["deeplasia"], epoch, 10.0, at_least=True))
    what = "decode + resize / building the cache"
    return [*rows, quotient("cache", what, seconds["decode"], seconds["build"], 0.9, at_least=True)]


def _loader_of_all_cores(dataset: Dataset[Any]) -> DataLoader[Any]:
    """With a process a core, as our side has a thread a core, and none of them to be started anew in each epoch."""
    return DataLoader(dataset, batch_size=BATCH, num_workers=usable_cores(), persistent_workers=True)


def deeplasia_dataset(checkout: Path, files: list[Path]) -> Dataset[dict[str, Any]]:
    """Deeplasia's own training data set, from its own checkout, on our films, without masks.

    Raises:
        InputError: no such checkout, or what it imports is not installed.
    """
    if not (checkout / "lib" / "datasets.py").is_file():
        raise InputError(f"--deeplasia: {checkout} is no checkout of github.com/aimi-bonn/Deeplasia")
    sys.path.insert(0, str(checkout))
    try:
        peer: Any = importlib.import_module("lib.datasets")
    except ImportError as error:
        raise InputError(f"Deeplasia's loader needs {error.name}; pip install -e '.[bench]'") from error
    finally:
        sys.path.remove(str(checkout))
    table = pd.DataFrame({"image_ID": [file.name for file in files], "dir": ".", "sex": "M", "bone_age": 100.0})
    augment = peer.HandDatamodule.get_train_augmentation(input_size=(1, PX, PX))
    return peer.HandDataset(table, img_dir=str(files[0].parent), mask_dirs=[], data_augmentation=augment)


def write_films(folder: Path, size: tuple[int, int], count: int = COUNT) -> list[Path]:
    """Phantoms as PNG files of a width and a height, upright."""
    width, height = size
    files = []
    for case in phantom_cases(count, seed=0):
        square = case.image.load(height).pixels
        margin = (height - width) // 2
        file = folder / f"{case.id}.png"
        Image.fromarray(np.ascontiguousarray(square[:, margin : margin + width])).save(file)
        files.append(file)
    return files


def _decode_all(files: list[Path]) -> None:
    for file in files:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            grey = image.convert("L")
            scale = SOURCE_PX / max(grey.size)
            size = (round(grey.width * scale), round(grey.height * scale))
            torch.from_numpy(np.array(grey.resize(size, Image.Resampling.BILINEAR)))
