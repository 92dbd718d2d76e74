"""Radiographs straight from their files, for prediction: nothing is cached, and a bad file is a row with its reason."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from baa.data.batches import Batch
from baa.data.radiograph import ImageFile
from baa.errors import InputError
from baa.nets.film import Film
from baa.nets.fusion import Sex
from baa.nets.regions import RegionCropper

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})


class FileSample(NamedTuple):
    """A file on its way to the device; batched, each tensor gets a leading B and `error` is a list.

    image [1, S, S] uint8, black where the file could not be read; sex; place in the list of files; size [2]: width and
    height of the file's image; whether it was a negative that has been turned; why it could not be read, or nothing.
    """

    image: Tensor
    sex: Tensor
    place: Tensor
    size: Tensor
    inverted: Tensor
    error: str


class FileDataset(Dataset[FileSample]):
    """The files at some places of a list, decoded as they are asked for."""

    def __init__(self, files: Sequence[Path], places: Sequence[int], sex: Sex, px: int) -> None:
        self.files = files
        self.places = torch.tensor(places)
        self.sex = sex
        self.px = px

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> FileSample:
        sex, place = torch.tensor(int(self.sex)), self.places[index]
        try:
            radiograph = ImageFile(self.files[int(place)]).load(self.px)
        except (InputError, OSError) as error:
            black = torch.zeros(1, self.px, self.px, dtype=torch.uint8)
            return FileSample(black, sex, place, torch.ones(2), torch.tensor(False), error=str(error))
        pixels, size = torch.from_numpy(radiograph.pixels)[None], torch.tensor([radiograph.width, radiograph.height])
        return FileSample(pixels, sex, place, size.float(), torch.tensor(radiograph.inverted), error="")


class FileDataModule(L.LightningDataModule):
    """Files in batches, decoded by loader processes while the networks work, and their crops.

    Args:
        files: PNG or JPEG.
        places: of those that are read.
        sex: of all of them.
        px: side of the square source.
        crop: what cuts the regions, None for a network of the whole hand.
        batch_size: of one process.
        workers: loader processes.

    Batches are (`Batch`, `FileSample`).
    """

    def __init__(
        self,
        files: Sequence[Path],
        places: Sequence[int],
        sex: Sex,
        *,
        px: int,
        crop: RegionCropper | None,
        batch_size: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.dataset = FileDataset(files, places, sex, px)
        self.crop = crop
        self.batch_size = batch_size
        self.workers = workers

    def predict_dataloader(self) -> DataLoader[FileSample]:
        return DataLoader(
            self.dataset, batch_size=self.batch_size, num_workers=self.workers, pin_memory=torch.cuda.is_available()
        )

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: FileSample, dataloader_idx: int) -> tuple[Batch, FileSample]:
        film = Film.plain(batch.image.float().div_(255))
        unknown = film.source.new_full((len(film.source), 2, 4), torch.nan)
        regions = self.crop.to(film.source.device)(film) if self.crop is not None else None
        whole = Batch(film, unknown[:, 0, 0], batch.sex, batch.place, unknown, unknown[:, 0, :2], unknown, regions)
        return whole, batch


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """The files given, and of each folder the PNG and JPEG files in it and below it, in order and each once.

    Raises:
        InputError: an input that is not there, or a folder without an image.
    """
    files: list[Path] = []
    for given in inputs:
        if given.is_dir():
            found = sorted(file for file in given.rglob("*") if file.suffix.lower() in SUFFIXES)
            if not found:
                raise InputError(f"{given} holds no image: not one file ends in {', '.join(sorted(SUFFIXES))}")
            files += found
        elif given.exists():
            files.append(given)
        else:
            raise InputError(f"{given} is not there; give image files, or folders of them")
    return list(dict.fromkeys(files))
