"""Views of radiographs: rotated, scaled, mirrored, exposed. Every picture of a view is one resampling of its source.

An affine map [B, 3, 3] takes places of one picture to places of another. A place is (x, y, 1); x and y are shares of the side,
counted from edge to edge, so the center of pixel i of S lies at (i + 0.5) / S. Maps compose: augmentation, view and crop cost
one interpolation.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from kornia.geometry.conversions import convert_affinematrix_to_homography
from kornia.geometry.transform import remap
from torch import Tensor

from baa.nets.backbone import GrayImage

Affine = Float[Tensor, "batch 3 3"]
Boxes = Float[Tensor, "batch 4"]
Picture = Float[Tensor, "batch 1 px px"]
Maps = Float[Tensor, "batch channels rows columns"]

SLACK = 0.25
"""Up to this much more than a whole factor of shrinking is left to bilinear interpolation alone."""


class View(NamedTuple):
    """A view of a batch of radiographs.

    `source` is in [0, 1]. `affine` takes places of the view to places of the source. A picture of the view is multiplied by
    `contrast`, then `brightness` is added. `erased` is a black rectangle on the view, (x0, y0, x1, y1): NaN for none, None if
    no view of the batch has one.

    Example:
        >>> view = View.of(torch.rand(2, 1, 64, 64)).turned(torch.tensor([1, 0]), torch.tensor([False, True]))
        >>> view.render(32).shape
        torch.Size([2, 1, 32, 32])
        >>> boxes = torch.tensor([[0.0, 0.0, 0.5, 0.25], [0.0, 0.0, 0.5, 0.25]])
        >>> view.boxes_in_source(boxes[:, None])[:, 0]
        tensor([[0.7500, 0.0000, 1.0000, 0.5000],
                [0.5000, 0.0000, 1.0000, 0.2500]])
    """

    source: Float[Tensor, "batch 1 side side"]
    affine: Affine
    contrast: Float[Tensor, " batch"]
    brightness: Float[Tensor, " batch"]
    erased: Boxes | None

    @classmethod
    def of(cls, source: GrayImage) -> "View":
        """View radiographs [B, 1, S, S] as they are."""
        count = source.shape[0]
        return cls(
            source=source,
            affine=torch.eye(3, device=source.device, dtype=source.dtype).expand(count, 3, 3),
            contrast=source.new_ones(count),
            brightness=source.new_zeros(count),
            erased=None,
        )

    def render(self, px: int) -> Picture:
        """Render the whole view, antialiased: [B, 1, px, px]. Pixels are averaged by whole factors first, which is cheap."""
        source = average(self.source, whole_factor(self.source.shape[-1], px))
        picture = self._expose(resample(source, self.affine, px, _samples(source, 1.0, px)))
        return picture if self.erased is None else black_out(picture, self.erased)

    def crops(self, boxes: Float[Tensor, "batch region 4"], sizes: Sequence[tuple[int, float]]) -> list[Tensor]:
        """Cut boxes from each view, straight from the source: [B, 1, px, px] per region. Differentiable in the boxes.

        Args:
            boxes: [B, R, 4], as shares of the view.
            sizes: of each region, the side px of its crops, and the side of its largest possible box as a share of the view.
                The latter sets how finely all its crops are sampled.
        """
        corners, sides = boxes[:, :, :2], boxes[:, :, 2:] - boxes[:, :, :2]
        affines = within(self.affine, corners, sides)
        crops = [
            self._expose(resample(self.source, affine, px, _samples(self.source, max_side, px)))
            for affine, (px, max_side) in zip(affines.unbind(dim=1), sizes, strict=True)
        ]
        if self.erased is None:
            return crops
        erased = (self.erased[:, None] - corners.repeat(1, 1, 2)) / sides.repeat(1, 1, 2)
        return [black_out(crop, box) for crop, box in zip(crops, erased.unbind(dim=1), strict=True)]

    def turned(self, quarters: Int64[Tensor, " batch"], mirrored: Bool[Tensor, " batch"]) -> "View":
        """Rotate the view counterclockwise by quarters of a circle, then mirror it left to right where `mirrored`.

        Args:
            quarters: [B], 0 to 3.
            mirrored: [B] bool.
        """
        cos, sin = (1 - quarters) * ((quarters + 1) % 2), (2 - quarters) * (quarters % 2)  # exact, for 0 to 3
        x_sign = 1 - 2 * mirrored.long()
        linear = torch.stack([cos * x_sign, -sin, sin * x_sign, cos], dim=1).view(-1, 2, 2).to(self.affine)
        turn = about_center(linear)
        erased = self.erased if self.erased is None else map_boxes(self.erased, invert(turn))
        return self._replace(affine=compose(self.affine, turn), erased=erased)

    def boxes_in_source(self, boxes: Float[Tensor, "batch *regions 4"]) -> Float[Tensor, "batch *regions 4"]:
        """Convert boxes [B, ..., 4] of the view to places in the source.

        Exact for views in steps of 90 degrees and mirrored ones. For other angles: the smallest upright box around each.
        """
        return map_boxes(boxes, self.affine)

    def points_in_source(self, points: Float[Tensor, "batch n 2"]) -> Float[Tensor, "batch n 2"]:
        """Convert points (x, y) [B, n, 2] of the view to places in the source."""
        return _map_points(points, self.affine)

    def boxes_from_source(self, boxes: Float[Tensor, "batch *regions 4"]) -> Float[Tensor, "batch *regions 4"]:
        """Convert square boxes [B, ..., 4] of the source to squares on the view, with the same center and scale."""
        inverse, determinant = _inverse(self.affine[:, :2, :2])
        flat = boxes.reshape(boxes.shape[0], -1, 4)
        middle = (flat[:, :, :2] + flat[:, :, 2:]) / 2
        center = _product(middle - self.affine[:, None, :2, 2], inverse)
        half = (flat[:, :, 2:] - middle) / determinant.abs().sqrt()[:, None, None]
        return torch.cat([center - half, center + half], dim=2).view_as(boxes)

    def maps_in_source(self, heat: Maps) -> Maps:
        """Move heat maps [B, C, h, w] of the view to their places in the source: nearest cell, exact in steps of 90 degrees."""
        return _warp(heat, invert(self.affine), heat.shape[2], heat.shape[3], "nearest")

    def _expose(self, picture: Picture) -> Picture:
        factor, addition = self.contrast.view(-1, 1, 1, 1), self.brightness.view(-1, 1, 1, 1)
        return torch.addcmul(addition, picture, factor).clamp_(0, 1)


def whole_factor(side: int, px: int) -> int:
    """Return the factor by which a source is averaged before a view of `px` is interpolated from it."""
    return next(factor for factor in range(max(1, side // px), 0, -1) if side % factor == 0)


def _samples(source: Tensor, share: float, px: int) -> int:
    return max(1, math.ceil(source.shape[-1] * share / px - SLACK))


def resample(source: GrayImage, affine: Float[Tensor, "batch _ 3"], px: int, samples: int = 1) -> Picture:
    """Render the picture [B, 1, px, px] whose places `affine` takes to the source; black outside of it.

    Args:
        source: [B, 1, S, S].
        affine: [B, 3, 3] or its first two rows, places of the picture to places of the source.
        px: side of the picture.
        samples: bilinear samples a side, averaged into one pixel.
    """
    return average(_warp(source, affine, px * samples, px * samples, "bilinear"), samples)


def _warp(
    image: Maps, affine: Float[Tensor, "batch _ 3"], height: int, width: int, mode: str
) -> Float[Tensor, "batch channels {height} {width}"]:
    """Kornia's `remap` at the places that `affine` takes a picture's pixels to.

    Of kornia's functions it is the cheapest here: the x and y of an affine map are sums of a row and a column. Its normalized
    maps reach `grid_sample` as they are; without `align_corners` they run from -1 to 1 from edge to edge, as our shares do.
    """
    across = _doubled_middles(width, affine)
    down = across if height == width else _doubled_middles(height, affine)
    along_x = torch.addcmul(affine[:, :2, 2:] - 0.5, affine[:, :2, :1], across, value=0.5)  # B 2 W
    along_y = affine[:, :2, 1:2] * down  # B 2 H, doubled
    x, y = torch.add(along_y[:, :, :, None], along_x[:, :, None, :], alpha=2).unbind(dim=1)  # 2 * share - 1
    return remap(image, x, y, mode=mode, align_corners=False, normalized_coordinates=True)


def _doubled_middles(px: int, like: Tensor) -> Float[Tensor, " px"]:
    """Middles of pixels, from 0 to 2 from edge to edge."""
    return torch.linspace(1 / px, 2 - 1 / px, px, device=like.device, dtype=like.dtype)


def average(image: GrayImage, factor: int) -> Float[Tensor, "batch 1 rows columns"]:
    """Average blocks of `factor` by `factor` pixels: [B, 1, H, W] -> [B, 1, H / factor, W / factor].

    `avg_pool2d` needs ten times as long on a CPU.
    """
    if factor == 1:
        return image
    rows = reduce(torch.add, (image[..., i::factor, :] for i in range(factor)))
    return reduce(torch.add, (rows[..., i::factor] for i in range(factor))) / factor**2


def black_out(view: GrayImage, boxes: Boxes) -> GrayImage:
    """Return square images [B, 1, px, px] with a black rectangle over a box [B, 4] of each; a box of NaN hides nothing."""
    px = view.shape[-1]
    middles = torch.linspace(0.5 / px, 1 - 0.5 / px, px, device=view.device)
    columns, rows = ((middles >= boxes[:, :2, None]) & (middles < boxes[:, 2:, None])).unbind(dim=1)  # B px
    return view.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def affine_of(linear: Float[Tensor, "batch 2 2"], shift: Float[Tensor, "batch 2"]) -> Affine:
    """Make the affine map p -> linear p + shift: [B, 2, 2], [B, 2] -> [B, 3, 3]."""
    return convert_affinematrix_to_homography(torch.cat([linear, shift[:, :, None]], dim=2))


def about_center(linear: Float[Tensor, "batch 2 2"]) -> Affine:
    """Make the affine map [B, 3, 3] with a linear part [B, 2, 2] that leaves the center of the picture in its place."""
    return affine_of(linear, 0.5 - 0.5 * linear.sum(dim=2))


def within(
    affine: Affine, corners: Float[Tensor, "batch region 2"], sides: Float[Tensor, "batch region 2"]
) -> Float[Tensor, "batch region 2 3"]:
    """Make the first two rows of the maps of places of boxes, given by corners and sides, from that of their picture."""
    shift = _product(corners, affine[:, :2, :2]) + affine[:, None, :2, 2]
    return torch.cat([affine[:, None, :2, :2] * sides[:, :, None], shift[:, :, :, None]], dim=3)


def compose(outer: Affine, inner: Affine) -> Affine:
    """Make the affine map [B, 3, 3] that applies `inner`, then `outer`: their matrix product, without TF32."""
    return (outer[:, :, :, None] * inner[:, None]).sum(dim=2)


def invert(affine: Affine) -> Affine:
    """Invert affine maps [B, 3, 3] in closed form: `torch.linalg.inv` would make the host wait for a GPU."""
    linear, _ = _inverse(affine[:, :2, :2])
    return affine_of(linear, -(linear * affine[:, None, :2, 2]).sum(dim=2))


def _inverse(linear: Float[Tensor, "batch 2 2"]) -> tuple[Float[Tensor, "batch 2 2"], Float[Tensor, " batch"]]:
    """The inverse of linear maps, and their determinant."""
    (a, b), (c, d) = (row.unbind(dim=1) for row in linear.unbind(dim=1))
    determinant = a * d - b * c
    return torch.stack([d, -b, -c, a], dim=1).view(-1, 2, 2) / determinant[:, None, None], determinant


def map_boxes(boxes: Float[Tensor, "batch *regions 4"], affine: Affine) -> Float[Tensor, "batch *regions 4"]:
    """Find the smallest upright boxes [B, ..., 4] around boxes moved by `affine` [B, 3, 3]; NaN stays NaN."""
    flat = boxes.reshape(boxes.shape[0], -1, 4)
    center = _map_points((flat[:, :, :2] + flat[:, :, 2:]) / 2, affine)
    half = _product((flat[:, :, 2:] - flat[:, :, :2]) / 2, affine[:, :2, :2].abs())
    return torch.cat([center - half, center + half], dim=2).view_as(boxes)


def _map_points(points: Float[Tensor, "batch n 2"], affine: Affine) -> Float[Tensor, "batch n 2"]:
    return _product(points, affine[:, :2, :2]) + affine[:, None, :2, 2]


def _product(vectors: Float[Tensor, "batch n 2"], linear: Float[Tensor, "batch 2 2"]) -> Float[Tensor, "batch n 2"]:
    """Apply linear maps elementwise: a matrix product may round to TF32, which is a third of a pixel in 640."""
    return (linear[:, None] * vectors[:, :, None]).sum(dim=3)
