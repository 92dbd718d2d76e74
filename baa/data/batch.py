"""Samples, batches, and the cases of a split as a dataset."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from baa.data.cache import Radiographs
from baa.errors import InputError
from baa.nets.regions import Regions
from baa.nets.view import View
from baa.patient import Sex

NO_BOX = (float("nan"),) * 4


class Sample(NamedTuple):
    """A case as the loader gives it. In a batch each field has a leading B. Boxes are shares of the square; unknown is NaN.

    image: uint8 [1, S, S].
    months: bone age.
    sex: a `Sex`.
    case: its index in its split.
    gt_boxes: annotated boxes of the regions, [R, 4].
    capitate: annotated center, [2].
    cached_boxes: boxes that a locator found in the image as it is, [R, 4].
    """

    image: Tensor
    months: Tensor
    sex: Tensor
    case: Tensor
    gt_boxes: Tensor
    capitate: Tensor
    cached_boxes: Tensor


class Batch(NamedTuple):
    """The input of a training step: a batched `Sample` with a view in place of the image, and the regions once they are cut."""

    view: View
    months: Tensor
    sex: Tensor
    case: Tensor
    gt_boxes: Tensor
    capitate: Tensor
    cached_boxes: Tensor
    regions: Regions | None = None

    @classmethod
    def of(cls, sample: Sample, view: View) -> "Batch":
        """The batch of a batched sample whose image is seen as `view`."""
        return cls(view=view, **{name: field for name, field in sample._asdict().items() if name != "image"})


class RadiographDataset(Dataset[Sample]):
    """The cases of one split, read from the memory map.

    A loader asks for a whole batch of indices and gets one batched `Sample`. Give it `collate_fn=whole_batch`.

    Args:
        radiographs: the cases.
        regions: names of the regions, in the order of `gt_boxes`.
        cached_boxes: boxes found before, [N, R, 4].
    """

    def __init__(self, radiographs: Radiographs, regions: Sequence[str] = (), cached_boxes: Tensor | None = None) -> None:
        self.radiographs = radiographs
        cases = radiographs.cases
        shape = (len(cases), len(regions), 4)
        frames = torch.tensor(radiographs.frames(), dtype=torch.float64).view(len(cases), 3)
        sizes = torch.tensor(radiographs.sizes(), dtype=torch.float64).view(len(cases), 2)
        corner, side = frames[:, :2], frames[:, 2:]
        scale, margin = (sizes / side).float(), (-corner / side).float()
        boxes = torch.tensor([case.gt_boxes.get(region, NO_BOX) for case in cases for region in regions]).view(shape)
        capitates = torch.tensor([case.capitate or NO_BOX[:2] for case in cases]).view(len(cases), 2)
        self.labels = Sample(
            image=torch.empty(len(cases), 0, dtype=torch.uint8),
            months=torch.tensor([float("nan") if case.months is None else case.months for case in cases]),
            sex=torch.tensor([int(case.sex) for case in cases], dtype=torch.long),
            case=torch.arange(len(cases)),
            gt_boxes=boxes * scale.repeat(1, 2)[:, None] + margin.repeat(1, 2)[:, None],
            capitate=capitates * scale + margin,
            cached_boxes=torch.full(shape, torch.nan) if cached_boxes is None else cached_boxes,
        )

    def without_sex(self) -> "RadiographDataset":
        """A copy in which every sex is unknown."""
        hidden = copy.copy(self)
        hidden.labels = self.labels._replace(sex=torch.full_like(self.labels.sex, Sex.UNKNOWN))
        return hidden

    def __len__(self) -> int:
        return len(self.radiographs.cases)

    def __getitem__(self, index: int) -> Sample:
        return Sample(*(field[0] for field in self.__getitems__([index])))

    def __getitems__(self, indices: Sequence[int]) -> Sample:
        px = self.radiographs.px
        image = torch.empty(len(indices), 1, px, px, dtype=torch.uint8)
        for place, index in enumerate(indices):
            image.numpy()[place, 0] = self._pixels(index)
        chosen = torch.tensor(indices)
        return Sample(*(field[chosen] for field in self.labels))._replace(image=image)

    def _pixels(self, index: int) -> UInt8[np.ndarray, "side side"]:
        try:
            return self.radiographs.pixels(index)
        except Exception as error:
            name, key = self.radiographs.cases[index].image.name, self.radiographs.key
            raise InputError(
                f"{name}: its pixels cannot be read from the cache ({type(error).__name__}); remove {key} in data.cache"
            ) from error


def whole_batch(batch: Any) -> Any:
    """Collate nothing: `RadiographDataset` returns a batched `Sample`."""
    return batch
