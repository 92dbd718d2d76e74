"""Radiographs as they are looked at: turned, moved, exposed. Every view of one is a single resampling of its source.

A frame is an affine map [B, 2, 3] from the places of a picture to the places of another, both as shares of the side: composing
frames is what lets augmentation, view and crop cost one interpolation together, and blur once.
"""

import math
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from baa.nets.backbone import GreyImage

Frame = Float[Tensor, "batch 2 3"]
Boxes = Float[Tensor, "batch 4"]
Picture = Float[Tensor, "batch 1 px px"]

SLACK = 0.25
"""Shrinking by up to this more than a whole factor is left to bilinear interpolation alone."""


class Film(NamedTuple):
    """A batch on the light box.

    source [B, 1, S, S] in [0, 1]; frame [B, 2, 3]: where in the source each place of the film lies; contrast, brightness [B]:
    the factor and the addition that every view gets; hidden [B, 4]: a black rectangle on
    the film, NaN for none; None where no film of the batch has one.
    """

    source: Tensor
    frame: Tensor
    contrast: Tensor
    brightness: Tensor
    hidden: Tensor | None

    @classmethod
    def plain(cls, source: GreyImage) -> "Film":
        """The radiographs as they are."""
        count = source.shape[0]
        return cls(
            source=source,
            frame=torch.eye(2, 3, device=source.device, dtype=source.dtype).expand(count, 2, 3),
            contrast=source.new_ones(count),
            brightness=source.new_zeros(count),
            hidden=None,
        )

    def view(self, px: int) -> Picture:
        """The whole film at `px`, antialiased: pixels are averaged by whole factors first, which is cheap."""
        source = average(self.source, whole_factor(self.source.shape[-1], px))
        view = self._expose(resample(source, self.frame, px, _samples(source, 1.0, px)))
        return view if self.hidden is None else black_out(view, self.hidden)

    def crop(self, boxes: Boxes, px: int, largest: float) -> Picture:
        """What lies in each box of the film, at `px`; differentiable in the boxes.

        Args:
            boxes: shares of the film.
            px: side of the crops.
            largest: the side of the largest box; it sets how finely all are sampled.
        """
        frame = compose(self.frame, box_frame(boxes))
        crop = self._expose(resample(self.source, frame, px, _samples(self.source, largest, px)))
        if self.hidden is None:
            return crop
        corner, sides = boxes[:, :2].repeat(1, 2), (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        return black_out(crop, (self.hidden - corner) / sides)

    def _expose(self, image: Picture) -> Picture:
        factor, addition = self.contrast.view(-1, 1, 1, 1), self.brightness.view(-1, 1, 1, 1)
        return torch.addcmul(addition, image, factor).clamp_(0, 1)


def whole_factor(side: int, px: int) -> int:
    """By how much a source is averaged, before a view of `px` is interpolated from it."""
    return next(factor for factor in range(max(1, side // px), 0, -1) if side % factor == 0)


def _samples(source: Tensor, share: float, px: int) -> int:
    return max(1, math.ceil(source.shape[-1] * share / px - SLACK))


def resample(source: GreyImage, frame: Frame, px: int, samples: int = 1) -> Picture:
    """The picture that `frame` takes from the source, black where it leaves it.

    Args:
        source: [B, 1, S, S].
        frame: places of the picture to places of the source.
        px: side of the picture.
        samples: bilinear samples a side, averaged into one pixel.

    Shapes:
        -> [B, 1, px, px]
    """
    linear = frame[:, :, :2]
    shift = 2 * frame[:, :, 2] + linear.sum(dim=2) - 1  # torch's places run from -1 to 1
    places = (torch.arange(px * samples, device=frame.device, dtype=frame.dtype) + 0.5) * (2 / (px * samples)) - 1
    columns = places[None, :, None] * linear[:, None, :, 0] + shift[:, None]
    rows = places[None, :, None] * linear[:, None, :, 1]
    if torch.compiler.is_compiling():  # and exporting: graphs know no complex numbers
        grid = columns[:, None] + rows[:, :, None]
    else:  # pairs added as complex numbers run on all lanes of a CPU: fifty times as fast as affine_grid there
        grid = torch.view_as_real(torch.view_as_complex(columns)[:, None] + torch.view_as_complex(rows)[:, :, None])
    return average(F.grid_sample(source, grid, align_corners=False), samples)


def average(image: GreyImage, factor: int) -> Float[Tensor, "batch 1 rows columns"]:
    """The means of blocks of `factor` by `factor` pixels; `avg_pool2d` needs ten times as long on a CPU."""
    if factor == 1:
        return image
    rows = reduce(torch.add, (image[..., i::factor, :] for i in range(factor)))
    return reduce(torch.add, (rows[..., i::factor] for i in range(factor))) / factor**2


def box_frame(boxes: Boxes) -> Frame:
    """Places of a box to places of what it lies on."""
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    none = torch.zeros_like(x0)
    return torch.stack([x1 - x0, none, x0, none, y1 - y0, y0], dim=1).view(-1, 2, 3)


def compose(outer: Frame, inner: Frame) -> Frame:
    """`inner` first, then `outer`."""
    linear = outer[:, :, :2] @ inner[:, :, :2]
    shift = outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]
    return torch.cat([linear, shift], dim=2)


def carry(boxes: Boxes, frame: Frame) -> Boxes:
    """Square boxes of the source to the squares of the same place and size on the film that `frame` leads to the source."""
    back = torch.linalg.inv(frame[:, :, :2])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    moved = (back @ (centre - frame[:, :, 2])[:, :, None])[:, :, 0]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * torch.linalg.det(back).abs().sqrt()[:, None]
    return torch.cat([moved - half, moved + half], dim=1)


def black_out(view: GreyImage, boxes: Boxes) -> GreyImage:
    """The view with a black rectangle over each box; a box of NaN hides nothing."""
    height, width = view.shape[-2:]
    x = (torch.arange(width, device=view.device) + 0.5) / width
    y = (torch.arange(height, device=view.device) + 0.5) / height
    x0, y0, x1, y1 = boxes[:, :, None].unbind(dim=1)
    columns = (x >= x0) & (x < x1)  # B W
    rows = (y >= y0) & (y < y1)  # B H
    return view.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)
