"""From a heat map to a box, batched on the device.

A box is (x0, y0, x1, y1) as shares of the square image, the same at every resolution.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from baa.nets.attention import HeatMap
from baa.nets.view import Boxes

BOX_METHODS = ("peak", "moments")

HEAT_GRID = 48
"""Cells per side of the grid on which a box is found. A cell is about 2 % of the image."""

EDGE = 0.015
"""A map that is hottest nearer to its edge than this share of the image, or than half of its cells, has no peak."""

MODE_SPACING = 0.04
"""Smallest distance of two modes of a heat map, as a share of the image."""

BESIDE = 0.25
"""How far to either side of the peak a mode may lie, as a share of the image."""

LONG_SHIFTS = (2.5, 2.0)
"""Lengths of the steps of mean shift before the last one. Steps of length 1 become ever shorter: it would take eight."""

SEED = 0.14
"""Radius about a point whose hot cells `peak_span` takes, as a share of the image."""

WINDOW = 0.12
"""Radius about a mode in which the spread of the heat is measured, as a share of the image."""

FLOOD_ROUNDS = 12
"""Rounds of `flood`: enough for winding regions of the whole grid, which need up to log2 of its cells."""

Cells = Bool[Tensor, "batch rows columns"]
Cell = Int64[Tensor, " batch"]
Points = Float[Tensor, "batch 2"]


class Span(NamedTuple):
    """Where a region lies, as shares of the image.

    Args:
        center: [B, 2], (x, y).
        half: [B, 2], half of its width and of its height.
    """

    center: Tensor
    half: Tensor


def upsample(heat: HeatMap, px: int) -> Float[Tensor, "batch px px"]:
    """Resample heat maps [B, h, w] to [B, px, px], bicubic, not negative; maps of this size are returned as they are."""
    if heat.shape[1:] == (px, px):
        return heat
    return F.interpolate(heat[:, None], size=(px, px), mode="bicubic", align_corners=False)[:, 0].clamp(min=0)


class BoxFinder(nn.Module):
    """Finds places in heat maps [B, n, n] that are not negative, as shares of the image.

    Args:
        cells: n.

    Shapes:
        heat maps [B, n, n] -> points [B, 2], (x, y)

    Example:
        >>> heat = torch.zeros(1, 48, 48)
        >>> heat[0, 36, 12] = 1.0
        >>> BoxFinder().peak(heat)
        tensor([[0.2604, 0.7604]])
    """

    middles: Tensor
    powers: Tensor
    number: Tensor
    depth: Tensor

    def __init__(self, cells: int = HEAT_GRID) -> None:
        super().__init__()
        self.cells = cells
        across = ((torch.arange(cells) + 0.5) / cells).expand(cells, cells)
        middles = torch.stack([across, across.T])  # (x, y) of each cell
        self.register_buffer("middles", middles, persistent=False)
        squares = middles.square() + 1 / (12 * cells**2)  # a cell has a width of its own
        self.register_buffer("powers", torch.cat([torch.ones(1, cells, cells), middles, squares]), persistent=False)
        self.register_buffer("number", torch.arange(float(cells**2)), persistent=False)
        depth = torch.minimum(middles, 1 - middles).amin(dim=0).flatten()  # of each cell, from the edge of the image
        self.register_buffer("depth", depth, persistent=False)

    def peak(self, heat: HeatMap) -> Points:
        """Find the hottest points (x, y) [B, 2]."""
        return self.point(hottest(heat))

    def point(self, cell: Cell) -> Points:
        """Return the middle (x, y) [B, 2] of cells [B], counted row by row."""
        return self.middles.flatten(1)[:, cell].T

    def has_peak(self, heat: Float[Tensor, "batch _ _"], cell: Cell) -> Bool[Tensor, " batch"]:
        """Return which maps [B, h, w] vary, are finite, and are not hottest at the edge: bool [B].

        Args:
            heat: not negative.
            cell: their hottest cells [B] on the grid of this finder.
        """
        return varies(heat) & (self.depth[cell] >= max(EDGE, 0.5 / max(heat.shape[1:])))

    def lowest_mode(self, heat: HeatMap, peak: Points, threshold: float, shift_radius: float = 0.15) -> Points:
        """Find the mode of each heat map that is nearest to the forearm: the lowest one, for an upright hand.

        A mode is the hottest cell within `MODE_SPACING`, and at most `BESIDE` to the left or right of the peak: a marker
        beside the hand is not. Mean shift then moves it to the middle of the heat about it.

        Args:
            heat: [B, n, n], not negative.
            peak: (x, y) [B, 2], the hottest points.
            threshold: share of the maximum that a mode needs.
            shift_radius: radius of mean shift, a share of the image.

        Returns:
            (x, y) [B, 2].
        """
        reach = round(MODE_SPACING * self.cells)
        hottest_near = F.max_pool2d(heat[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
        enough = threshold * heat.amax(dim=(1, 2), keepdim=True)
        beside = (self.middles[0, :1] - peak[:, :1]).abs() <= BESIDE  # B n
        is_mode = (heat >= torch.maximum(hottest_near, enough)) & beside[:, None]
        return self.mean_shift(heat, self.point(hottest(is_mode * self.number.view(heat.shape[1:]))), shift_radius)

    def mean_shift(self, heat: HeatMap, start: Points, radius: float) -> Points:
        """Move points to the mean of the heat within a radius, step by step. The last step is differentiable in the heat.

        Mean shift is Comaniciu and Meer, PAMI 2002; all steps but the last are longer, by `LONG_SHIFTS`.

        Args:
            heat: [B, n, n], not negative.
            start: the points (x, y) [B, 2].
            radius: a share of the image.

        Returns:
            The moved points [B, 2].
        """
        parts = _above_zero(heat)[:, None] * self.powers[:3]

        def mean(points: Points) -> Points:
            sums = (parts * self._disc(points.detach(), radius)[:, None]).sum(dim=(2, 3))
            return sums[:, 1:] / sums[:, :1]

        points = start
        for length in LONG_SHIFTS:
            points = points.lerp(mean(points), length)
        return mean(points)

    def window_span(self, heat: HeatMap, points: Points, extent: float) -> Span:
        """Measure the heat about points (x, y) [B, 2]: `extent` standard deviations within `WINDOW`. Differentiable."""
        return Span(points, extent * self.moments(heat * self._disc(points.detach(), WINDOW))[1].sqrt())

    def _disc(self, points: Points, radius: float) -> Cells:
        """The cells within a radius of points (x, y)."""
        return self._distance(points) <= radius

    def _distance(self, points: Points) -> Float[Tensor, "batch rows columns"]:
        return (self.middles - points[:, :, None, None]).norm(dim=1)

    def peak_span(self, heat: HeatMap, *, threshold: float, margin: float, points: Points | None = None) -> Span:
        """Find the paper's "peak attention area": the bounding box of the hot cells connected with the peak, plus a margin.

        Args:
            heat: [B, n, n], not negative.
            threshold: share of the maximum from which a cell is hot.
            margin: added on each side, as a share of the image.
            points: (x, y) [B, 2]; the cells about them, in place of the peak.
        """
        highest = heat.amax(dim=(1, 2), keepdim=True)
        seed = heat == highest if points is None else self._disc(points, SEED)
        blob = flood(heat >= threshold * highest, seed)
        sides = [_ends(blob.any(dim=axis)) for axis in (1, 2)]  # columns, then rows
        first, last = (torch.stack(ends, dim=1).to(heat.dtype) for ends in zip(*sides, strict=True))
        return Span((first + last) / 2, (last - first) / 2 + margin)

    def moments_span(self, heat: HeatMap, *, sharpness: float, extent: float) -> Span:
        """Measure the sharpened map: its mean, and `extent` standard deviations to each side. Differentiable.

        Args:
            heat: [B, n, n], not negative.
            sharpness: power of the map before it is measured.
            extent: half the side, in standard deviations.
        """
        if sharpness != 1:
            heat = (heat / _above_zero(heat.amax(dim=(1, 2), keepdim=True))).pow(sharpness)
        center, variance = self.moments(heat)
        return Span(center, extent * variance.sqrt())

    def moments(self, heat: HeatMap) -> tuple[Points, Points]:
        """Compute mean [B, 2] and variance [B, 2] (x, y) of heat maps [B, n, n]; without heat, those of an even map."""
        parts = _above_zero(heat)[:, None] * self.powers
        sums = parts.sum(dim=(2, 3))  # elementwise: a matrix product may round to TF32
        means = sums[:, 1:] / sums[:, :1]
        mean, squares = means.split(2, dim=1)
        return mean, squares - mean.square()

    def apply_prior(self, heat: HeatMap, center: Points, sigma: float, floor: float = 0.0) -> HeatMap:
        """Multiply heat maps [B, n, n] by a Gaussian spatial prior.

        Args:
            heat: [B, n, n], not negative.
            center: of the prior, (x, y) [B, 2].
            sigma: its standard deviation, a share of the image.
            floor: added to the map first, as a share of its maximum, so that the prior decides where the map is zero.
        """
        heat = heat + floor * heat.amax(dim=(1, 2), keepdim=True)
        return heat * torch.exp(self._distance(center).square() / (-2 * sigma**2))


def hottest(heat: HeatMap) -> Cell:
    """Find the hottest cells of maps [B, h, w], counted row by row: [B]."""
    return heat.flatten(1).argmax(dim=1)


def _above_zero(heat: Tensor) -> Tensor:
    """Heat with which no sum is zero: a mean of no heat, and its gradient, are finite too."""
    return heat + torch.finfo(heat.dtype).tiny


def flood(hot: Cells, seed: Cells) -> Cells:
    """Keep the hot cells that are connected with a seed, corners included.

    Each cell points at a cell of its component with a higher number, and all pointers are followed and passed to neighbors at
    once (FastSV: Zhang, Azad and Hu, SIAM PP 2020). kornia's `connected_components` spreads labels cell by cell, in as many
    steps as a region is long.

    Shapes:
        hot [B, h, w], seed [B, h, w] -> [B, h, w], all bool
    """
    batch, height, width = hot.shape
    framed = (batch, 1, height + 2, width + 2)  # cell 0 is never hot: cells that are not hot point at it
    inside = F.pad(hot, (1, 1, 1, 1)).flatten(1)
    number = torch.arange(inside.shape[1], device=hot.device, dtype=torch.float32) * inside  # exact; GPUs pool no integers
    parent = number.long()
    for _ in range(FLOOD_ROUNDS):
        grandparent = number.gather(1, parent).view(framed)
        highest = F.max_pool2d(grandparent, 3, stride=1, padding=1).flatten(1) * inside
        number = highest.scatter_reduce(1, parent, highest, "amax")
        parent = number.long()
    seeds = F.pad(hot & seed, (1, 1, 1, 1)).flatten(1).float()
    reached = seeds.scatter_reduce(1, parent, seeds, "amax").gather(1, parent).view(framed)
    return reached[:, 0, 1:-1, 1:-1] > 0


def _ends(occupied: Bool[Tensor, "batch cell"]) -> tuple[Tensor, Tensor]:
    first = occupied.float().argmax(dim=1)
    last = occupied.shape[1] - occupied.flip(1).float().argmax(dim=1)
    return first / occupied.shape[1], last / occupied.shape[1]


def varies(heat: HeatMap) -> Bool[Tensor, " batch"]:
    """Return which maps [B, h, w] have different values, all of them finite: bool [B]."""
    lowest, highest = heat.flatten(1).aminmax(dim=1)
    return torch.add(lowest, highest, alpha=1e-6) < highest  # also false where a value is not finite


def square_inside(span: Span, min_side: float, max_side: float) -> Boxes:
    """Return square boxes [B, 4] that are as wide as a span is at its widest, with a side in limits, and inside the image."""
    return square_at(span.center, span.half.amax(dim=1, keepdim=True).clamp(min_side / 2, max_side / 2))


def square_at(center: Float[Tensor, "*boxes 2"], half: Float[Tensor, "*boxes 1"]) -> Float[Tensor, "*boxes 4"]:
    """Return squares [..., 4] of half a side [..., 1] about centers [..., 2], moved inside the image."""
    center = center.clamp(min=half, max=1 - half)
    return torch.cat([center - half, center + half], dim=-1)
