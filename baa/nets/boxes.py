"""From a heat map to a box, batched on the device.

A box is (x0, y0, x1, y1) as fractions of the square source, so that it means the same at every resolution.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from baa.nets.attention import HeatMap
from baa.nets.view import Boxes

RULES = ("peak", "moments")

HEAT_GRID = 48
"""Cells a side on which a box is found: about 2 % of the image a cell, and the flood stays short."""

FLOOD_STEPS = 2 * HEAT_GRID
"""Cells that a flood reaches: twice across the image, for regions that wind."""

Cells = Bool[Tensor, "batch rows columns"]


def upsample(heat: HeatMap, px: int) -> Float[Tensor, "batch px px"]:
    """A heat map at the image's resolution, for finding a box or for looking at."""
    return F.interpolate(heat[:, None], size=(px, px), mode="bicubic", align_corners=False)[:, 0].clamp(min=0)


def peak(heat: HeatMap) -> Float[Tensor, "batch 2"]:
    """Where a heat map is hottest: (x, y) as fractions."""
    grid = upsample(heat, HEAT_GRID)
    y, x = torch.unravel_index(grid.flatten(1).argmax(dim=1), grid.shape[1:])
    return (torch.stack([x, y], dim=1) + 0.5) / HEAT_GRID


def peak_box(heat: HeatMap, *, threshold: float, margin: float) -> Boxes:
    """The paper's "peak attention area" as we take it: the bounding box of what is hot and connected with the peak, a margin.

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
    """The cells that are hot and connected with a seed, corners included.

    One component is all that a box needs; kornia's `connected_components` labels every one, in ten times the time.
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
    """The mean of the sharpened map, and `extent` standard deviations to each side: smooth in the map.

    Args:
        heat: not negative.
        sharpness: power that the map is raised to before it is normalised.
        extent: half the side, in standard deviations.
    """
    middle, variance = moments(heat, sharpness)
    half = extent * variance.sqrt()
    return torch.cat([middle - half, middle + half], dim=1)


def moments(heat: HeatMap, sharpness: float = 1.0) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch 2"]]:
    """Mean and variance of a heat map, each (x, y), as shares of the image; `sharpness` as of `moments_box`."""
    height, width = heat.shape[1:]
    highest = heat.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)
    mass = (heat / highest).pow(sharpness)
    mass = mass / mass.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)
    centres = [(torch.arange(n, device=heat.device, dtype=heat.dtype) + 0.5) / n for n in (width, height)]
    means, variances = [], []
    for profile, centre in zip((mass.sum(dim=1), mass.sum(dim=2)), centres, strict=True):
        mean = profile @ centre
        variance = (profile * (centre - mean[:, None]).square()).sum(dim=1)
        means.append(mean)
        variances.append(variance + 1 / (12 * len(centre) ** 2))  # a cell has a width of its own
    return torch.stack(means, dim=1), torch.stack(variances, dim=1)


def degenerate(heat: HeatMap) -> Bool[Tensor, " batch"]:
    """Maps that point nowhere: flat, not finite, or hottest in the outermost half cell."""
    flat = heat.flatten(1)
    pointless = ~flat.isfinite().all(dim=1) | (flat.amax(dim=1) - flat.amin(dim=1) <= 1e-6 * flat.abs().amax(dim=1))
    border = 0.5 / max(heat.shape[1:])
    top = peak(heat.nan_to_num())
    return pointless | (top < border).any(dim=1) | (top > 1 - border).any(dim=1)


def square_inside(boxes: Boxes, smallest: float, largest: float) -> Boxes:
    """The squares around the boxes' centres, sides held between two shares of the image, moved inside it."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1, keepdim=True).clamp(smallest, largest)
    centre = centre.clamp(min=side / 2, max=1 - side / 2)
    return torch.cat([centre - side / 2, centre + side / 2], dim=1)


def favour(heat: HeatMap, centre: Float[Tensor, "batch 2"], spread: float, floor: float = 0.0) -> HeatMap:
    """A heat map times a Gaussian about where a region is expected, (x, y) and deviation as shares of the image.

    `floor`, a share of the maximum, is added first: with it the expectation speaks where the map is silent.
    """
    heat = heat + floor * heat.amax(dim=(1, 2), keepdim=True)
    height, width = heat.shape[1:]
    x = (torch.arange(width, device=heat.device) + 0.5) / width - centre[:, :1]  # B w
    y = (torch.arange(height, device=heat.device) + 0.5) / height - centre[:, 1:]  # B h
    return heat * torch.exp(-(x.square()[:, None] + y.square()[:, :, None]) / (2 * spread**2))
