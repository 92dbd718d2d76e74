"""Radiographs decoded for prediction. Nothing is cached, and one that cannot be read is a sample with its reason."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from baa.data.read.decode import MAX_PIXELS
from baa.data.read.file import ImageFile
from baa.data.read.picture import gray_from_array
from baa.data.read.process import decode_apart
from baa.data.read.radiograph import Radiograph
from baa.data.read.square import make_radiograph
from baa.errors import InputError
from baa.inference.inputs import InputFile
from baa.patient import Patient, Sex


class FileSample(NamedTuple):
    """A radiograph to predict; batched, each tensor gets a leading B and each text is a list.

    image [1, S, S] uint8, black if the file could not be read; sex; sex_source: `option`, `table`, `file`, or empty for an
    unknown sex; months: the chronological age, NaN if unknown; place in the list of inputs; frame [3]: left and top edge and
    side of the square in the file's image, in pixels; notes: what was unusual about the file; error: why it could not be
    read, or empty.
    """

    image: Tensor
    sex: Tensor
    sex_source: str
    months: Tensor
    place: Tensor
    frame: Tensor
    notes: str
    error: str


class FileDataset(Dataset[FileSample]):
    """The radiographs at some places of a list of inputs, decoded on access.

    Args:
        inputs: radiographs, and what is known of their patients.
        places: of the radiographs to read.
        px: side of the square source.
    """

    def __init__(self, inputs: Sequence[InputFile], places: Sequence[int], px: int) -> None:
        self.inputs = inputs
        self.places = list(places)
        self.px = px

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> FileSample:
        place = self.places[index]
        given = self.inputs[place]
        try:
            return make_sample(decode_input(given, self.px), given, place)
        except InputError as error:
            return failed_sample(str(error), given, place, self.px)
        except OSError as error:
            return failed_sample(error.strerror or str(error), given, place, self.px)
        except Exception as error:  # one file must not end the others; the text might quote a patient's data
            return failed_sample(f"could not be read: unexpected {type(error).__name__}", given, place, self.px)


def decode_input(given: InputFile, px: int) -> Radiograph:
    """Decode a file, the bytes of one, or an array to a square radiograph of `px`.

    Raises:
        InputError: it is no radiograph that can be read.
        OSError: the file cannot be opened.
    """
    if given.content is None:
        return ImageFile(given.file).load(px)
    if isinstance(given.content, bytes):
        return decode_apart(given.content, px)
    return make_radiograph(gray_from_array(given.content, MAX_PIXELS), px)


def make_sample(radiograph: Radiograph, given: InputFile, place: int) -> FileSample:
    """Combine a radiograph with what is known of its patient. What the caller gives goes before what the file contains."""
    notes = [given.note] if given.note else []
    notes += [*radiograph.notes, *(["bright background, inverted"] if radiograph.inverted else [])]
    patient = radiograph.patient
    if given.sex is not None and patient.sex not in (given.sex, Sex.UNKNOWN):
        notes.append(f"the file's sex is {patient.sex.name.lower()}")
    pixels, frame = torch.tensor(radiograph.pixels)[None], torch.tensor(radiograph.frame)
    return _sample(pixels, given, patient, place, frame, "; ".join(notes), "")


def failed_sample(error: str, given: InputFile, place: int, px: int) -> FileSample:
    """Make the sample of a file that could not be read."""
    return _sample(torch.zeros(1, px, px, dtype=torch.uint8), given, Patient(), place, torch.ones(3), "", error)


def _sample(image: Tensor, given: InputFile, patient: Patient, place: int, frame: Tensor, notes: str, error: str) -> FileSample:
    sex, source = (patient.sex, "file") if given.sex is None else (given.sex, given.sex_source)
    months = patient.months if given.months is None else given.months
    return FileSample(
        image=image,
        sex=torch.tensor(int(sex)),
        sex_source="" if sex == Sex.UNKNOWN else source,
        months=torch.tensor(torch.nan if months is None else months),
        place=torch.tensor(place),
        frame=frame,
        notes=notes,
        error=error,
    )
