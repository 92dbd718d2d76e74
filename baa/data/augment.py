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
        draws = _draws(self, source.device)
        moved, flipped = (_matrix(augmentation, source) for augmentation in (draws.affine, draws.flip))
        exposure = draws.exposure(source.shape)
        return View(
            source=source,
            affine=invert(_in_shares(flipped @ moved, source.shape[-1])),
            contrast=exposure["contrast"].to(source),
            brightness=exposure["brightness"].to(source),
            erased=_rectangles(draws.erasing, source) if self.random_erasing_p else None,
        )


class _Draws(NamedTuple):
    affine: RandomAffine
    flip: RandomHorizontalFlip
    exposure: PlainUniformGenerator
    erasing: RandomErasing


@lru_cache(maxsize=16)
def _draws(augmentation: Augmentation, device: torch.device) -> _Draws:
    """kornia's augmentations, once for each device.

    Parameters come from the device of the ranges. `RandomContrast` and `RandomBrightness` move theirs to the CPU, for which a
    GPU would wait each batch, so the generator that both are made of draws for them.
    """

    def pair(first: float, second: float) -> Tensor:
        return torch.tensor([first, second], device=device, dtype=torch.float32)

    degrees, scale, shift = augmentation.degrees, augmentation.scale, augmentation.shift
    contrast, brightness = augmentation.contrast, augmentation.brightness
    draws = _Draws(
        affine=RandomAffine(pair(-degrees, degrees), translate=pair(shift, shift), scale=pair(1 - scale, 1 + scale), p=1.0),
        flip=RandomHorizontalFlip(p=augmentation.flip),
        exposure=PlainUniformGenerator(
            (pair(1 - contrast, 1 + contrast), "contrast", None, None),
            (pair(-brightness, brightness), "brightness", None, None),
        ),
        erasing=RandomErasing(pair(*ERASED_AREA), ERASED_RATIO, p=augmentation.random_erasing_p),
    )
    for part in draws:
        part.set_rng_device_and_dtype(device, torch.float32)
    return draws


def _matrix(augmentation: RandomAffine | RandomHorizontalFlip, source: GrayImage) -> Affine:
    """Indices of pixels of the source to indices of pixels of the augmented image."""
    drawn = augmentation.forward_parameters(source.shape)
    return augmentation.generate_transformation_matrix(source, drawn, augmentation.flags)


def _in_shares(matrix: Affine, side: int) -> Affine:
    """A map of pixels' indices as one of shares: the center of pixel i lies at (i + 0.5) / side."""
    linear = matrix[:, :2, :2]
    return affine_of(linear, (matrix[:, :2, 2] + 0.5 - 0.5 * linear.sum(dim=2)) / side)


def _rectangles(erasing: RandomErasing, source: GrayImage) -> Boxes:
    drawn = erasing.forward_parameters(source.shape)
    corner = torch.stack([drawn["xs"], drawn["ys"]], dim=1)
    size = torch.stack([drawn["widths"], drawn["heights"]], dim=1)
    boxes = torch.cat([corner, corner + size], dim=1) / source.shape[-1]
    return boxes.masked_fill(drawn["batch_prob"][:, None] < 0.5, torch.nan)
