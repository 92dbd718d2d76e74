"""From a heat map to a box, batched on the device.

A box is (x0, y0, x1, y1) as shares of the square image, the same at every resolution.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from baa.nets.attention import HeatMap
from baa.nets.view import Boxes

BOX_METHODS = ("peak", "moments")

HEAT_GRID = 48
"""Cells per side of the grid on which a box is found. A cell is about 2 % of the image."""

FLOOD_STEPS = 2 * HEAT_GRID
"""Cells that a flood reaches: twice across the image, for winding regions."""

Cells = Bool[Tensor, "batch rows columns"]


def upsample(heat: HeatMap, px: int) -> Float[Tensor, "batch px px"]:
    """Resample a heat map to [B, px, px], bicubic, not negative."""
    return F.interpolate(heat[:, None], size=(px, px), mode="bicubic", align_corners=False)[:, 0].clamp(min=0)


def peak(heat: HeatMap) -> Float[Tensor, "batch 2"]:
    """Find the hottest point (x, y) of a heat map, as shares of the image."""
    grid = upsample(heat, HEAT_GRID)
    y, x = torch.unravel_index(grid.flatten(1).argmax(dim=1), grid.shape[1:])
    return (torch.stack([x, y], dim=1) + 0.5) / HEAT_GRID


def peak_box(heat: HeatMap, *, threshold: float, margin: float) -> Boxes:
    """Find the paper's "peak attention area": the bounding box of the hot cells connected with the peak, plus a margin.

    Args:
        heat: not negative.
        threshold: share of the maximum from which a cell is hot.
        margin: added on each side, as a share of the image.
    """
    grid = upsample(heat, HEAT_GRID)
    highest = grid.amax(dim=(1, 2), keepdim=True)
    blob = flood(grid >= threshold * highest, grid == highest)
    edges = [_extent(blob.any(dim=axis)) for axis in (1, 2)]  # columns, then rows
    (x0, x1), (y0, y1) = edges
    return torch.stack([x0 - margin, y0 - margin, x1 + margin, y1 + margin], dim=1).to(heat.dtype)


def flood(hot: Cells, seed: Cells) -> Cells:
    """Keep the hot cells that are connected with a seed, corners included.

    A box needs one component only. kornia's `connected_components` labels all of them, in ten times the time.
    """
    blob = hot & seed
    for _ in range(FLOOD_STEPS):
        tall = blob.clone()
        tall[:, 1:] |= blob[:, :-1]
        tall[:, :-1] |= blob[:, 1:]
        wide = tall.clone()
        wide[:, :, 1:] |= tall[:, :, :-1]
        wide[:, :, :-1] |= tall[:, :, 1:]
        blob = wide & hot
    return blob


def _extent(occupied: Bool[Tensor, "batch cell"]) -> tuple[Tensor, Tensor]:
    first = occupied.float().argmax(dim=1)
    last = occupied.shape[1] - occupied.flip(1).float().argmax(dim=1)
    return first / occupied.shape[1], last / occupied.shape[1]


def moments_box(heat: HeatMap, *, sharpness: float, extent: float) -> Boxes:
    """Find the box around the mean of the sharpened map, `extent` standard deviations to each side. Differentiable.

    Args:
        heat: not negative.
        sharpness: power of the map before it is normalized.
        extent: half the side, in standard deviations.
    """
    middle, variance = moments(heat, sharpness)
    half = extent * variance.sqrt()
    return torch.cat([middle - half, middle + half], dim=1)


def moments(heat: HeatMap, sharpness: float = 1.0) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch 2"]]:
    """Compute mean and variance (x, y) of a heat map, as shares of the image; `sharpness` as in `moments_box`."""
    height, width = heat.shape[1:]
    highest = heat.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)
    mass = (heat / highest).pow(sharpness)
    mass = mass / mass.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)
    centers = [(torch.arange(n, device=heat.device, dtype=heat.dtype) + 0.5) / n for n in (width, height)]
    means, variances = [], []
    for profile, center in zip((mass.sum(dim=1), mass.sum(dim=2)), centers, strict=True):
        mean = profile @ center
        variance = (profile * (center - mean[:, None]).square()).sum(dim=1)
        means.append(mean)
        variances.append(variance + 1 / (12 * len(center) ** 2))  # a cell has a width of its own
    return torch.stack(means, dim=1), torch.stack(variances, dim=1)


def degenerate(heat: HeatMap) -> Bool[Tensor, " batch"]:
    """Detect maps without a peak: flat, not finite, or hottest in the outermost half cell."""
    flat = heat.flatten(1)
    no_peak = ~flat.isfinite().all(dim=1) | (flat.amax(dim=1) - flat.amin(dim=1) <= 1e-6 * flat.abs().amax(dim=1))
    border = 0.5 / max(heat.shape[1:])
    top = peak(heat.nan_to_num())
    return no_peak | (top < border).any(dim=1) | (top > 1 - border).any(dim=1)


def square_inside(boxes: Boxes, min_side: float, max_side: float) -> Boxes:
    """Make boxes square, with a side between two shares of the image, and move them inside it."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True).clamp(min_side, max_side)
    center = center.clamp(min=side / 2, max=1 - side / 2)
    return torch.cat([center - side / 2, center + side / 2], dim=1)


def apply_prior(heat: HeatMap, center: Float[Tensor, "batch 2"], sigma: float, floor: float = 0.0) -> HeatMap:
    """Multiply a heat map by a Gaussian spatial prior.

    Args:
        heat: not negative.
        center: of the prior, (x, y) as shares of the image.
        sigma: its standard deviation, a share of the image.
        floor: added to the map first, as a share of its maximum, so that the prior decides where the map is zero.
    """
    heat = heat + floor * heat.amax(dim=(1, 2), keepdim=True)
    height, width = heat.shape[1:]
    x = (torch.arange(width, device=heat.device) + 0.5) / width - center[:, :1]  # B w
    y = (torch.arange(height, device=heat.device) + 0.5) / height - center[:, 1:]  # B h
    return heat * torch.exp(-(x.square()[:, None] + y.square()[:, :, None]) / (2 * sigma**2))
