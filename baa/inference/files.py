"""Radiographs straight from their files, for prediction: nothing is cached, and a bad file is a row with its reason."""

from collections.abc import Sequence
from typing import NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from baa.data.batch import Batch
from baa.data.dicom import Patient
from baa.data.radiograph import ImageFile
from baa.data.sampling import ignore_signals
from baa.errors import InputError
from baa.inference.inputs import Asked
from baa.nets.cropper import RegionCropper
from baa.nets.input_check import Recogniser, recognise
from baa.nets.pose import Pose
from baa.nets.view import Film
from baa.patient import Sex


class FileSample(NamedTuple):
    """A file on its way to the device; batched, each tensor gets a leading B and each text is a list.

    image [1, S, S] uint8, black where the file could not be read; sex, and whose word that is: `option`, `table`, `file`, or
    nobody's; months: the chronological age, NaN if unknown; place in the list of files; size [2]: width and height of the
    file's image; notes: what was odd, in words; error: why it could not be read, or nothing; pose: how it was laid before
    it was read; strangeness: above 0 where no whole upright hand was recognised; laterality: the logit of having lain
    the other way round than most that were trained on; NaN where nobody looked.
    """

    image: Tensor
    sex: Tensor
    sex_from: str
    months: Tensor
    place: Tensor
    size: Tensor
    notes: str
    error: str
    pose: Pose
    strangeness: Tensor
    laterality: Tensor


class FileDataset(Dataset[FileSample]):
    """The files at some places of a list, decoded as they are asked for."""

    def __init__(self, asked: Sequence[Asked], places: Sequence[int], px: int) -> None:
        self.asked = asked
        self.places = torch.tensor(places)
        self.px = px

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> FileSample:
        place = self.places[index]
        asked = self.asked[int(place)]
        try:
            radiograph = ImageFile(asked.file).load(self.px)
        except (InputError, OSError) as error:
            black = torch.zeros(1, self.px, self.px, dtype=torch.uint8)
            return self._sample(black, asked, Patient(), place, torch.ones(2), [], str(error))
        pixels, size = torch.from_numpy(radiograph.pixels)[None], torch.tensor([radiograph.width, radiograph.height])
        notes = [*radiograph.notes, *(["bright background, turned dark"] if radiograph.inverted else [])]
        return self._sample(pixels, asked, radiograph.patient, place, size.float(), notes, "")

    def _sample(
        self, image: Tensor, asked: Asked, patient: Patient, place: Tensor, size: Tensor, notes: list[str], error: str
    ) -> FileSample:
        """What whoever asks says goes before what the file says; where the two differ on the sex, that is noted."""
        sex, by = (patient.sex, "file") if asked.sex is None else (asked.sex, asked.by)
        if patient.sex not in (sex, Sex.UNKNOWN):
            notes = [*notes, f"the file says {patient.sex.name.lower()}"]
        months = patient.months if asked.months is None else asked.months
        return FileSample(
            image,
            torch.tensor(int(sex)),
            "" if sex == Sex.UNKNOWN else by,
            torch.tensor(torch.nan if months is None else months),
            place,
            size,
            "; ".join(notes),
            error,
            Pose(torch.tensor(0), torch.tensor(False)),
            torch.tensor(torch.nan),
            torch.tensor(torch.nan),
        )


class FileDataModule(L.LightningDataModule):
    """Files in batches, decoded by loader processes while the networks work, and their crops.

    Args:
        asked: the files, and what is known of their patients.
        places: of those that are read.
        px: side of the square source.
        crop: what cuts the regions, None for a network of the whole hand.
        recogniser: of what the locator of `crop` makes of a hand; None reads whatever is given as it is.
        batch_size: of one process.
        workers: loader processes.

    Batches are (`Batch`, `FileSample`).
    """

    def __init__(
        self,
        asked: Sequence[Asked],
        places: Sequence[int],
        *,
        px: int,
        crop: RegionCropper | None,
        recogniser: Recogniser | None,
        batch_size: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.dataset = FileDataset(asked, places, px)
        self.crop = crop
        self.recogniser = recogniser
        self.batch_size = batch_size
        self.workers = workers

    def predict_dataloader(self) -> DataLoader[FileSample]:
        return DataLoader(
            self.dataset,
            batch_size=self.batch_size,
            num_workers=self.workers,
            worker_init_fn=ignore_signals,
            pin_memory=torch.cuda.is_available(),
        )

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: FileSample, dataloader_idx: int) -> tuple[Batch, FileSample]:
        source = batch.image.float().div_(255)
        film, regions = Film.plain(source), None
        if self.crop is not None:
            crop = self.crop.to(source.device)
            if self.recogniser is None:
                regions = crop(film)
            else:
                found = recognise(crop, self.recogniser.to(source.device), source)
                film, regions = found.film, found.regions
                batch = batch._replace(pose=found.pose, strangeness=found.strangeness, laterality=found.laterality)
        unknown = source.new_full((len(source), 2, 4), torch.nan)
        whole = Batch(film, unknown[:, 0, 0], batch.sex, batch.place, unknown, unknown[:, 0, :2], unknown, regions)
        return whole, batch
