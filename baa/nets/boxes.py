"""From a heat map to a box, batched on the device.

A box is (x0, y0, x1, y1) as shares of the square image, the same at every resolution.
"""

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


def upsample(heat: HeatMap, px: int) -> Float[Tensor, "batch px px"]:
    """Resample heat maps [B, h, w] to [B, px, px], bicubic, not negative."""
    return F.interpolate(heat[:, None], size=(px, px), mode="bicubic", align_corners=False)[:, 0].clamp(min=0)


def peak(heat: HeatMap) -> Float[Tensor, "batch 2"]:
    """Find the hottest point of heat maps [B, h, w]: (x, y) [B, 2], as shares of the image."""
    return _cell_point(upsample(heat, HEAT_GRID).flatten(1).argmax(dim=1))


def _cell_point(cell: Int64[Tensor, " batch"]) -> Float[Tensor, "batch 2"]:
    """The middle (x, y) of cells of the heat grid, counted row by row. (`unravel_index` makes tensors of lists.)"""
    return (torch.stack([cell % HEAT_GRID, cell // HEAT_GRID], dim=1) + 0.5) / HEAT_GRID


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
    is_mode = (grid == hottest_near) & (grid >= threshold * highest) & connected
    from_last = is_mode.flatten(1).to(torch.uint8).flip(1).argmax(dim=1)
    return mean_shift(grid, _cell_point(HEAT_GRID**2 - 1 - from_last).to(grid.dtype), shift_radius)


def mean_shift(heat: HeatMap, start: Float[Tensor, "batch 2"], radius: float) -> Float[Tensor, "batch 2"]:
    """Move points to the mean of the heat within a radius, step by step. The last step is differentiable.

    Args:
        heat: [B, h, w], not negative.
        start: the points (x, y) [B, 2], as shares of the image.
        radius: a share of the image.

    Returns:
        The moved points [B, 2].
    """
    heat = heat / _at_least_tiny(heat.amax(dim=(1, 2), keepdim=True))
    y, x = (_cell_centers(heat, axis) for axis in (1, 2))
    parts = torch.stack([heat * x, heat * y[:, None], heat], dim=1)  # of the sums of each step
    points = start.detach()
    for step in range(SHIFT_STEPS):
        with torch.set_grad_enabled(torch.is_grad_enabled() and step == SHIFT_STEPS - 1):
            sums = (parts * _disc(y, x, points.detach(), radius)[:, None]).sum(dim=(2, 3))
            points = sums[:, :2] / _at_least_tiny(sums[:, 2:])
    return points


def _at_least_tiny(sums: Tensor) -> Tensor:
    return sums.clamp(min=torch.finfo(sums.dtype).tiny)


def window_box(heat: HeatMap, points: Float[Tensor, "batch 2"], extent: float) -> Boxes:
    """Find the box about points, `extent` standard deviations of the heat within `WINDOW` to each side. Differentiable.

    Args:
        heat: [B, h, w], not negative.
        points: (x, y) [B, 2], as shares of the image.
        extent: half the side, in standard deviations.

    Returns:
        Boxes [B, 4].
    """
    grid = upsample(heat, HEAT_GRID)
    y, x = (_cell_centers(grid, axis) for axis in (1, 2))
    half = extent * moments(grid * _disc(y, x, points.detach(), WINDOW))[1].sqrt()
    return torch.cat([points - half, points + half], dim=1)


def _disc(
    y: Float[Tensor, " rows"], x: Float[Tensor, " columns"], points: Float[Tensor, "batch 2"], radius: float
) -> Bool[Tensor, "batch rows columns"]:
    """The cells within a radius of points (x, y), on a grid of cells with middles y and x."""
    far = (x - points[:, :1]).square()[:, None] + (y - points[:, 1:]).square()[:, :, None]
    return far <= radius**2


def _cell_centers(heat: HeatMap, axis: int) -> Float[Tensor, " cells"]:
    cells = heat.shape[axis]
    return torch.linspace(0.5 / cells, 1 - 0.5 / cells, cells, device=heat.device, dtype=heat.dtype)


def peak_box(heat: HeatMap, *, threshold: float, margin: float, points: Float[Tensor, "batch 2"] | None = None) -> Boxes:
    """Find the paper's "peak attention area": the bounding box of the hot cells connected with the peak, plus a margin.

    Args:
        heat: [B, h, w], not negative.
        threshold: share of the maximum from which a cell is hot.
        margin: added on each side, as a share of the image.
        points: (x, y) [B, 2]; the cells about them, in place of the peak.

    Returns:
        Boxes [B, 4].
    """
    grid = upsample(heat, HEAT_GRID)
    highest = grid.amax(dim=(1, 2), keepdim=True)
    seed = grid == highest if points is None else _disc(_cell_centers(grid, 1), _cell_centers(grid, 2), points, SEED)
    blob = flood(grid >= threshold * highest, seed)
    edges = [_extent(blob.any(dim=axis)) for axis in (1, 2)]  # columns, then rows
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0 - margin, y0 - margin, x1 + margin, y1 + margin], dim=1).to(heat.dtype)


def flood(hot: Cells, seed: Cells) -> Cells:
    """Keep the hot cells that are connected with a seed, corners included.

    Each cell points at a cell of its component with a higher number, and all pointers are followed and passed to neighbors at
    once (FastSV: Zhang, Azad and Hu, SIAM PP 2020). kornia's `connected_components` spreads labels cell by cell, in as many
    steps as a region is long.

    Shapes:
        hot [B, h, w], seed [B, h, w] -> [B, h, w], all bool
    """
    batch, height, width = hot.shape
    inside = hot.flatten(1)
    parent = torch.arange(height * width, device=hot.device) * inside
    for _ in range(FLOOD_ROUNDS):
        grandparent = parent.gather(1, parent) * inside
        grid = grandparent.view(batch, 1, height, width).float()  # exact; GPUs pool no integers
        highest = F.max_pool2d(grid, 3, stride=1, padding=1).flatten(1).long() * inside
        hooked = parent.scatter_reduce(1, parent, highest, "amax")
        parent = torch.maximum(torch.maximum(hooked, highest), grandparent)
    reached = torch.zeros_like(parent).scatter_reduce(1, parent, (seed.flatten(1) & inside).long(), "amax")
    return ((reached.gather(1, parent) > 0) & inside).view_as(hot)


def _extent(occupied: Bool[Tensor, "batch cell"]) -> tuple[Tensor, Tensor]:
    first = occupied.float().argmax(dim=1)
    last = occupied.shape[1] - occupied.flip(1).float().argmax(dim=1)
    return first / occupied.shape[1], last / occupied.shape[1]


def moments_box(heat: HeatMap, *, sharpness: float, extent: float) -> Boxes:
    """Find the box around the mean of the sharpened map, `extent` standard deviations to each side. Differentiable.

    Args:
        heat: [B, h, w], not negative.
        sharpness: power of the map before it is normalized.
        extent: half the side, in standard deviations.

    Returns:
        Boxes [B, 4].
    """
    middle, variance = moments(heat, sharpness)
    half = extent * variance.sqrt()
    return torch.cat([middle - half, middle + half], dim=1)


def moments(heat: HeatMap, sharpness: float = 1.0) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch 2"]]:
    """Compute mean [B, 2] and variance [B, 2] (x, y) of heat maps [B, h, w], as shares of the image.

    For `sharpness` see `moments_box`.
    """
    mass = heat / _at_least_tiny(heat.amax(dim=(1, 2), keepdim=True))
    mass = mass if sharpness == 1 else mass.pow(sharpness)
    mass = mass / _at_least_tiny(mass.sum(dim=(1, 2), keepdim=True))
    centers = [_cell_centers(heat, axis) for axis in (2, 1)]
    means, variances = [], []
    for profile, center in zip((mass.sum(dim=1), mass.sum(dim=2)), centers, strict=True):
        mean = (profile * center).sum(dim=1)  # elementwise: a matrix product may round to TF32
        variance = (profile * (center - mean[:, None]).square()).sum(dim=1)
        means.append(mean)
        variances.append(variance + 1 / (12 * len(center) ** 2))  # a cell has a width of its own
    return torch.stack(means, dim=1), torch.stack(variances, dim=1)


def degenerate(heat: HeatMap) -> Bool[Tensor, " batch"]:
    """Detect maps [B, h, w] without a peak: flat, not finite, or hottest in the outermost half cell. Returns bool [B]."""
    inside = 0.5 - 0.5 / max(heat.shape[1:])
    from_middle = (peak(heat.nan_to_num()) - 0.5).abs()
    return flat(heat) | (from_middle > inside).any(dim=1)


def flat(heat: HeatMap) -> Bool[Tensor, " batch"]:
    """Detect maps [B, h, w] that have the same value everywhere, or one that is not finite. Returns bool [B]."""
    highest, lowest = heat.amax(dim=(1, 2)), heat.amin(dim=(1, 2))
    return ~(highest - lowest > 1e-6 * torch.maximum(highest, -lowest))  # also where a value is not finite


def square_inside(boxes: Boxes, min_side: float, max_side: float) -> Boxes:
    """Make boxes [B, 4] square, with a side between two shares of the image, and move them inside it."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True).clamp(min_side, max_side)
    center = center.clamp(min=side / 2, max=1 - side / 2)
    return torch.cat([center - side / 2, center + side / 2], dim=1)


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
    x = _cell_centers(heat, 2) - center[:, :1]  # B w
    y = _cell_centers(heat, 1) - center[:, 1:]  # B h
    return heat * torch.exp(-(x.square()[:, None] + y.square()[:, :, None]) / (2 * sigma**2))
