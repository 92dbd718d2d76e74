"""Data augmentation of a batch on its device: scale, rotation, contrast and brightness of the paper; shift, flip, erasing.

kornia draws the parameters and makes the matrices. Nothing is resampled here: the matrices are composed into a `View`, of which
every picture is interpolated once.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from kornia.augmentation import RandomAffine, RandomErasing, RandomHorizontalFlip
from kornia.augmentation.random_generator import PlainUniformGenerator
from torch import Tensor

from baa.nets.backbone import GrayImage
from baa.nets.view import Affine, Boxes, View, affine_of, invert

ERASED_AREA, ERASED_RATIO = (0.02, 0.15), (0.5, 2.0)
"""Share of the area, height by width of an erased rectangle."""


@dataclass(frozen=True)
class Augmentation:
    """Draw a view of each image from torch's global random generator: [B, 1, S, S] in [0, 1] -> `View`.

    Args:
        degrees: rotation by up to +-degrees.
        scale: scaling by a factor of 1 +- scale.
        shift: translation by up to +-shift of the side.
        contrast: contrast factor of 1 +- contrast.
        brightness: addition of up to +-brightness, after the contrast.
        flip: probability of a left-right flip.
        random_erasing_p: probability of a black rectangle of 2 to 15 % of the area.

    Example:
        >>> Augmentation(degrees=20.0)(torch.rand(8, 1, 64, 64)).render(48).shape
        torch.Size([8, 1, 48, 48])
    """

    degrees: float = 15.0
    scale: float = 0.1
    shift: float = 0.05
    contrast: float = 0.2
    brightness: float = 0.1
    flip: float = 0.5
    random_erasing_p: float = 0.0

    def __call__(self, source: GrayImage) -> View:
        count, side = source.shape[0], source.shape[-1]
        draws = _draws(self)
        moved, flipped = (_matrix(augmentation, source.shape) for augmentation in (draws.affine, draws.flip))
        exposure = draws.exposure(source.shape)
        parts = [
            invert(_in_shares(flipped @ moved, side)).flatten(1),
            torch.stack([exposure["contrast"], exposure["brightness"]], dim=1),
            *([_rectangles(draws.erasing, source.shape)] if self.random_erasing_p else []),
        ]
        drawn = _to_device(torch.cat(parts, dim=1), source.device)
        return View(
            source=source,
            affine=drawn[:, :9].view(count, 3, 3),
            contrast=drawn[:, 9],
            brightness=drawn[:, 10],
            erased=drawn[:, 11:] if self.random_erasing_p else None,
        )


class _Draws(NamedTuple):
    affine: RandomAffine
    flip: RandomHorizontalFlip
    exposure: PlainUniformGenerator
    erasing: RandomErasing


@lru_cache(maxsize=16)
def _draws(augmentation: Augmentation) -> _Draws:
    """kornia's augmentations, on the CPU: a batch's parameters are a few numbers, and reach a GPU as one tensor.

    `RandomContrast` and `RandomBrightness` are made of the generator that draws both here.
    """
    degrees, scale, shift = augmentation.degrees, augmentation.scale, augmentation.shift
    contrast, brightness = augmentation.contrast, augmentation.brightness
    return _Draws(
        affine=RandomAffine(degrees, translate=(shift, shift), scale=(1 - scale, 1 + scale), p=1.0),
        flip=RandomHorizontalFlip(p=augmentation.flip),
        exposure=PlainUniformGenerator(
            ((1 - contrast, 1 + contrast), "contrast", None, None),
            ((-brightness, brightness), "brightness", None, None),
        ),
        erasing=RandomErasing(ERASED_AREA, ERASED_RATIO, p=augmentation.random_erasing_p),
    )


def _matrix(augmentation: RandomAffine | RandomHorizontalFlip, shape: torch.Size) -> Affine:
    """Indices of pixels of the source to indices of pixels of the augmented image."""
    drawn = augmentation.forward_parameters(shape)
    return augmentation.generate_transformation_matrix(torch.empty(1).expand(shape), drawn, augmentation.flags)


def _to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; a GPU copies from pinned memory while the host goes on."""
    return (numbers.pin_memory() if device.type == "cuda" else numbers).to(device, non_blocking=True)


def _in_shares(matrix: Affine, side: int) -> Affine:
    """A map of pixels' indices as one of shares: the center of pixel i lies at (i + 0.5) / side."""
    linear = matrix[:, :2, :2]
    return affine_of(linear, (matrix[:, :2, 2] + 0.5 - 0.5 * linear.sum(dim=2)) / side)


def _rectangles(erasing: RandomErasing, shape: torch.Size) -> Boxes:
    drawn = erasing.forward_parameters(shape)
    corner = torch.stack([drawn["xs"], drawn["ys"]], dim=1)
    size = torch.stack([drawn["widths"], drawn["heights"]], dim=1)
    boxes = torch.cat([corner, corner + size], dim=1) / shape[-1]
    return boxes.masked_fill(drawn["batch_prob"][:, None] < 0.5, torch.nan)
