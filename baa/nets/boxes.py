"""From a heat map to a box, batched on the device.

A box is (x0, y0, x1, y1) as shares of the square image, the same at every resolution.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from baa.nets.attention import HeatMap
from baa.nets.view import Boxes

BOX_METHODS = ("peak", "moments")

HEAT_GRID = 48
"""Cells per side of the grid on which a box is found. A cell is about 2 % of the image."""

MODE_SPACING = 0.04
"""Smallest distance of two modes of a heat map, as a share of the image."""

CONNECTED = 0.15
"""Share of the maximum of the cells that connect a mode with the peak."""

SHIFT_STEPS = 8
"""Steps of mean shift."""

SEED = 0.14
"""Radius about a point whose hot cells `peak_box` takes, as a share of the image."""

WINDOW = 0.12
"""Radius about a mode in which the spread of the heat is measured, as a share of the image."""

FLOOD_ROUNDS = 12
"""Rounds of `flood`: enough for winding regions of the whole grid, which need up to log2 of its cells."""

Cells = Bool[Tensor, "batch rows columns"]


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


def cell_middles(heat: HeatMap) -> Float[Tensor, "2 rows columns"]:
    """Return the middle (x, y) of each cell of square heat maps [B, n, n], as shares of the image: [2, n, n]."""
    cells = heat.shape[-1]
    x = torch.linspace(0.5 / cells, 1 - 0.5 / cells, cells, device=heat.device, dtype=heat.dtype)
    return torch.stack([x.expand(cells, cells), x[:, None].expand(cells, cells)])


def peak(heat: HeatMap) -> Float[Tensor, "batch 2"]:
    """Find the hottest point of heat maps [B, h, w]: (x, y) [B, 2], as shares of the image."""
    grid = upsample(heat, HEAT_GRID)
    return _point(cell_middles(grid), grid.flatten(1).argmax(dim=1))


def _point(middles: Float[Tensor, "2 rows columns"], cell: Int64[Tensor, " batch"]) -> Float[Tensor, "batch 2"]:
    """The middle (x, y) of cells counted row by row."""
    return middles.flatten(1)[:, cell].T


def lowest_mode(heat: HeatMap, threshold: float, shift_radius: float = 0.15) -> Float[Tensor, "batch 2"]:
    """Find the mode of each heat map that is nearest to the forearm: the lowest one, for an upright hand.

    A mode is the hottest cell within `MODE_SPACING`, and is connected with the peak through cells of at least `CONNECTED` of
    the maximum: a marker beside the hand is not. Mean shift (Comaniciu and Meer, PAMI 2002) then moves it to the middle of
    the heat about it.

    Args:
        heat: [B, h, w], not negative.
        threshold: share of the maximum that a mode needs.
        shift_radius: radius of mean shift, a share of the image.

    Returns:
        (x, y) [B, 2], as shares of the image.
    """
    grid = upsample(heat, HEAT_GRID)
    reach = round(MODE_SPACING * HEAT_GRID)
    hottest_near = F.max_pool2d(grid[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0]
    highest = grid.amax(dim=(1, 2), keepdim=True)
    connected = flood(grid >= CONNECTED * highest, grid == highest)
    is_mode = (grid >= torch.maximum(hottest_near, threshold * highest)) & connected
    from_last = is_mode.flatten(1).to(torch.uint8).flip(1).argmax(dim=1)
    return mean_shift(grid, _point(cell_middles(grid), HEAT_GRID**2 - 1 - from_last), shift_radius)


def mean_shift(heat: HeatMap, start: Float[Tensor, "batch 2"], radius: float) -> Float[Tensor, "batch 2"]:
    """Move points to the mean of the heat within a radius, step by step. The last step is differentiable.

    Args:
        heat: [B, h, w], not negative.
        start: the points (x, y) [B, 2], as shares of the image.
        radius: a share of the image.

    Returns:
        The moved points [B, 2].
    """
    middles = cell_middles(heat)
    heat = (heat + torch.finfo(heat.dtype).tiny)[:, None]
    parts = torch.cat([heat * middles, heat], dim=1)  # of the sums of each step, which are above zero
    points = start.detach()
    for step in range(SHIFT_STEPS):
        with torch.set_grad_enabled(torch.is_grad_enabled() and step == SHIFT_STEPS - 1):
            sums = (parts * _disc(middles, points.detach(), radius)[:, None]).sum(dim=(2, 3))
            points = sums[:, :2] / sums[:, 2:]
    return points


def _at_least_tiny(sums: Tensor) -> Tensor:
    return sums.clamp(min=torch.finfo(sums.dtype).tiny)


def window_span(heat: HeatMap, points: Float[Tensor, "batch 2"], extent: float) -> Span:
    """Measure the heat about points: `extent` standard deviations of what lies within `WINDOW` to each side. Differentiable.

    Args:
        heat: [B, h, w], not negative.
        points: (x, y) [B, 2], as shares of the image.
        extent: half the side, in standard deviations.
    """
    grid = upsample(heat, HEAT_GRID)
    near = _disc(cell_middles(grid), points.detach(), WINDOW)
    return Span(points, extent * moments(grid * near)[1].sqrt())


def _disc(middles: Float[Tensor, "2 rows columns"], points: Float[Tensor, "batch 2"], radius: float) -> Cells:
    """The cells within a radius of points (x, y)."""
    return _distance(middles, points) <= radius


def _distance(
    middles: Float[Tensor, "2 rows columns"], points: Float[Tensor, "batch 2"]
) -> Float[Tensor, "batch rows columns"]:
    return (middles - points[:, :, None, None]).norm(dim=1)


def peak_span(heat: HeatMap, *, threshold: float, margin: float, points: Float[Tensor, "batch 2"] | None = None) -> Span:
    """Find the paper's "peak attention area": the bounding box of the hot cells connected with the peak, plus a margin.

    Args:
        heat: [B, h, w], not negative.
        threshold: share of the maximum from which a cell is hot.
        margin: added on each side, as a share of the image.
        points: (x, y) [B, 2]; the cells about them, in place of the peak.
    """
    grid = upsample(heat, HEAT_GRID)
    highest = grid.amax(dim=(1, 2), keepdim=True)
    seed = grid == highest if points is None else _disc(cell_middles(grid), points, SEED)
    blob = flood(grid >= threshold * highest, seed)
    sides = [_ends(blob.any(dim=axis)) for axis in (1, 2)]  # columns, then rows
    first, last = (torch.stack(ends, dim=1).to(heat.dtype) for ends in zip(*sides, strict=True))
    return Span((first + last) / 2, (last - first) / 2 + margin)


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


def moments_span(heat: HeatMap, *, sharpness: float, extent: float) -> Span:
    """Measure the sharpened map: its mean, and `extent` standard deviations to each side. Differentiable.

    Args:
        heat: [B, h, w], not negative.
        sharpness: power of the map before it is normalized.
        extent: half the side, in standard deviations.
    """
    center, variance = moments(heat, sharpness)
    return Span(center, extent * variance.sqrt())


def moments(heat: HeatMap, sharpness: float = 1.0) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch 2"]]:
    """Compute mean [B, 2] and variance [B, 2] (x, y) of heat maps [B, h, w], as shares of the image.

    For `sharpness` see `moments_span`.
    """
    mass = heat
    if sharpness != 1:
        mass = (heat / _at_least_tiny(heat.amax(dim=(1, 2), keepdim=True))).pow(sharpness)
    mass = (mass / _at_least_tiny(mass.sum(dim=(1, 2), keepdim=True)))[:, None]
    middles = cell_middles(heat)
    mean = (mass * middles).sum(dim=(2, 3))  # elementwise: a matrix product may round to TF32
    variance = (mass * (middles - mean[:, :, None, None]).square()).sum(dim=(2, 3))
    return mean, variance + 1 / (12 * heat.shape[-1] ** 2)  # a cell has a width of its own


def degenerate(heat: HeatMap, hottest: Float[Tensor, "batch 2"] | None = None) -> Bool[Tensor, " batch"]:
    """Detect maps [B, h, w] without a peak: flat, not finite, or hottest in the outermost half cell. Returns bool [B].

    `hottest` [B, 2] is their `peak`, if it has been found already.
    """
    hottest = peak(heat.nan_to_num()) if hottest is None else hottest
    inside = 0.5 - 0.5 / max(heat.shape[1:])
    return flat(heat) | ((hottest - 0.5).abs() > inside).any(dim=1)


def flat(heat: HeatMap) -> Bool[Tensor, " batch"]:
    """Detect maps [B, h, w] that have the same value everywhere, or one that is not finite. Returns bool [B]."""
    lowest, highest = heat.flatten(1).aminmax(dim=1)
    return ~(highest - lowest > 1e-6 * highest)  # also where a value is not finite


def square_inside(span: Span, min_side: float, max_side: float) -> Boxes:
    """Return square boxes [B, 4] that are as wide as a span is at its widest, with a side in limits, and inside the image."""
    half = span.half.amax(dim=1, keepdim=True).clamp(min_side / 2, max_side / 2)
    center = span.center.clamp(min=half, max=1 - half)
    return torch.cat([center - half, center + half], dim=1)


def apply_prior(heat: HeatMap, center: Float[Tensor, "batch 2"], sigma: float, floor: float = 0.0) -> HeatMap:
    """Multiply a heat map by a Gaussian spatial prior.

    Args:
        heat: [B, h, w], not negative.
        center: of the prior, (x, y) [B, 2] as shares of the image.
        sigma: its standard deviation, a share of the image.
        floor: added to the map first, as a share of its maximum, so that the prior decides where the map is zero.

    Returns:
        [B, h, w]
    """
    heat = heat + floor * heat.amax(dim=(1, 2), keepdim=True)
    return heat * torch.exp(_distance(cell_middles(heat), center).square() / (-2 * sigma**2))
