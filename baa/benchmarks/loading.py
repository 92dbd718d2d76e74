"""`loader` and `cache`: an epoch of batches ready on the device, and the one-time cost of making that fast."""

import functools
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from baa.benchmarks.pairs import Row, alternate, quotient
from baa.data.augment import Augmentation
from baa.data.cache import open_cache
from baa.data.cases import Case
from baa.data.modules import HandDataModule
from baa.data.phantom import phantom_cases
from baa.data.radiograph import ImageFile
from baa.nets.fusion import Sex

COUNT, FILM_PX, SOURCE_PX, PX, BATCH = 32, (1500, 2000), 640, 300, 16
ROUNDS = 3


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


def bench() -> list[Row]:
    """Films of the size that RSNA released, decoded each epoch by PIL, against ours from a warm cache; building that cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_films(folder)
        cases = [Case(id=file.stem, image=ImageFile(file), months=100.0, sex=Sex.UNKNOWN) for file in files]
        radiographs = open_cache(cases, folder=folder / "cache", px=SOURCE_PX, workers=1)
        data = HandDataModule({"train": radiographs}, batch_size=BATCH)
        augment = Augmentation()
        plain = DataLoader(PngDataset(files), batch_size=BATCH)

        def ours() -> None:
            for batch in data.train_dataloader():
                augment(batch.image.float().div_(255)).view(PX)

        def theirs() -> None:
            for _ in plain:
                pass

        def build() -> None:
            with tempfile.TemporaryDirectory() as fresh:
                open_cache(cases, folder=Path(fresh), px=SOURCE_PX, workers=1)

        sides: dict[str, Callable[[], object]] = {
            "ours": ours,
            "pil": theirs,
            "build": build,
            "decode": functools.partial(_decode_all, files),
        }
        seconds = alternate(sides, ROUNDS)
    return [
        quotient("loader", "PIL decode each epoch / ours, one epoch", seconds["pil"], seconds["ours"], 20.0, at_least=True),
        quotient("cache", "decode + resize / building the cache", seconds["decode"], seconds["build"], 0.9, at_least=True),
    ]


def write_films(folder: Path) -> list[Path]:
    """Phantoms as PNG files of the size of a released radiograph."""
    width, height = FILM_PX
    files = []
    for case in phantom_cases(COUNT, seed=0):
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
