"""What travels to the device and what the nets are trained on: samples, batches, and the cases of a split as a dataset."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from baa.data.cache import Radiographs
from baa.data.radiograph import padding
from baa.nets.cropper import Regions
from baa.nets.view import Film
from baa.patient import Sex

NO_BOX = (float("nan"),) * 4


class Sample(NamedTuple):
    """A case on its way to the device; batched, each field gets a leading B.

    image [1, S, S] uint8; months (NaN if unknown); sex; case: its place in its split; truth [2, 4]: the true carpal and
    hand boxes as shares of the square, NaN where unknown; capitate [2] likewise; remembered [2, 4]: the boxes that a locator
    found in the radiograph as it is, NaN if it was not asked.
    """

    image: Tensor
    months: Tensor
    sex: Tensor
    case: Tensor
    truth: Tensor
    capitate: Tensor
    remembered: Tensor


class Batch(NamedTuple):
    """What the nets are trained on: `Sample`'s fields batched, the image on a film, and the regions once cut."""

    film: Film
    months: Tensor
    sex: Tensor
    case: Tensor
    truth: Tensor
    capitate: Tensor
    remembered: Tensor
    regions: Regions | None = None

    @classmethod
    def of_noise(cls, count: int, source_px: int, crops_px: Sequence[int]) -> "Batch":
        """A batch of the shapes that training sees, to measure or to compile a network on."""
        film = Film.plain(torch.rand(count, 1, source_px, source_px))
        carpal, hand = (torch.rand(count, 1, px, px) for px in crops_px)
        boxes = film.source.new_zeros(count, 2, 4)
        months, labels = torch.rand(count) * 200, torch.zeros(count, dtype=torch.long)
        regions = Regions(boxes, None, None, (carpal, hand))
        return cls(film, months, labels, labels, boxes, boxes[:, 0, :2], boxes, regions)


class RadiographDataset(Dataset[Sample]):
    """The cases of one split, straight from the memory map, with remembered boxes [N, 2, 4] if there are any.

    A loader asks for a batch at a time and gets it as one `Sample`: `collate_fn=whole_batch`.
    """

    def __init__(self, radiographs: Radiographs, remembered: Tensor | None = None) -> None:
        self.radiographs = radiographs
        cases = radiographs.cases
        frames = torch.tensor([_frame(*size) for size in radiographs.sizes()]).view(len(cases), 4)
        share, margin = frames[:, :2], frames[:, 2:]
        boxes = torch.tensor([tuple(box or NO_BOX) for case in cases for box in (case.carpal, case.hand)])
        capitates = torch.tensor([case.capitate or NO_BOX[:2] for case in cases]).view(len(cases), 2)
        self.labels = Sample(
            image=torch.empty(len(cases), 0, dtype=torch.uint8),
            months=torch.tensor([float("nan") if case.months is None else case.months for case in cases]),
            sex=torch.tensor([int(case.sex) for case in cases], dtype=torch.long),
            case=torch.arange(len(cases)),
            truth=boxes.view(len(cases), 2, 4) * share.repeat(1, 2)[:, None] + margin.repeat(1, 2)[:, None],
            capitate=capitates * share + margin,
            remembered=torch.full((len(cases), 2, 4), torch.nan) if remembered is None else remembered,
        )

    def without_sex(self) -> "RadiographDataset":
        """The same, with every sex kept back."""
        untold = copy.copy(self)
        untold.labels = self.labels._replace(sex=torch.full_like(self.labels.sex, Sex.UNKNOWN))
        return untold

    def __len__(self) -> int:
        return len(self.radiographs.cases)

    def __getitem__(self, index: int) -> Sample:
        return Sample(*(field[0] for field in self.__getitems__([index])))

    def __getitems__(self, indices: Sequence[int]) -> Sample:
        px = self.radiographs.px
        image = torch.empty(len(indices), 1, px, px, dtype=torch.uint8)
        for place, index in enumerate(indices):
            image.numpy()[place, 0] = self.radiographs.pixels(index)
        chosen = torch.tensor(indices)
        return Sample(*(field[chosen] for field in self.labels))._replace(image=image)


def _frame(width: int, height: int) -> tuple[float, float, float, float]:
    """Of a radiograph in its square: its share of the sides, and its margins."""
    left, top, side = padding(width, height)
    return width / side, height / side, left, top


def whole_batch(batch: Any) -> Any:
    """What `RadiographDataset` gives is collated already: a `Sample`."""
    return batch
