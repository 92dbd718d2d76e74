"""From a heat map to a box, from two heat maps to two crops: the cascade of Li et al. 2023, batched on the device.

A box is (x0, y0, x1, y1) as fractions of the square source, so that it means the same at every resolution.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from baa.nets.backbones import FeatureMap, GreyImage
from baa.nets.film import Boxes, Film, black_out, carry
from baa.nets.heatmap import Graph, HeatMap, heat_map
from baa.nets.locator import Locator

CARPAL, HAND = 0, 1
REGIONS = ("carpal", "hand")
RULES = ("peak", "moments")

HEAT_GRID = 48
"""Cells a side on which a box is found: below 2 % of the image a cell, and the flood stays short."""

FLOOD_STEPS = 2 * HEAT_GRID
"""Cells that a flood reaches: twice across the image, for regions that wind."""

Cells = Bool[Tensor, "batch rows columns"]


class Regions(NamedTuple):
    """Both regions of a batch, `CARPAL` first.

    boxes [B, 2, 4], heat [B, 2, h, w] (the second map is of the masked radiograph), fallback [B, 2] bool (the map was
    degenerate and the box is the typical one), crops: one [B, 1, px, px] for each region, of its own px. Where nobody looked,
    and the boxes were remembered, heat and fallback are None.
    """

    boxes: Tensor
    heat: Tensor | None
    fallback: Tensor | None
    crops: tuple[Tensor, Tensor]


def upsample(heat: HeatMap, px: int) -> Float[Tensor, "batch px px"]:
    """A heat map at the image's resolution, for finding a box or for looking at."""
    return F.interpolate(heat[:, None], size=(px, px), mode="bicubic", align_corners=False)[:, 0].clamp(min=0)


def peak(heat: HeatMap) -> Float[Tensor, "batch 2"]:
    """Where a heat map is hottest: (x, y) as fractions."""
    grid = upsample(heat, HEAT_GRID)
    y, x = torch.unravel_index(grid.flatten(1).argmax(dim=1), grid.shape[1:])
    return (torch.stack([x, y], dim=1) + 0.5) / HEAT_GRID


def peak_box(heat: HeatMap, *, threshold: float, margin: float) -> Boxes:
    """The paper's rule: the bounding box of what is hot, is connected with the peak, and a margin.

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
    height, width = heat.shape[1:]
    highest = heat.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)
    mass = (heat / highest).pow(sharpness)
    mass = mass / mass.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(heat.dtype).tiny)
    centres = [(torch.arange(n, device=heat.device, dtype=heat.dtype) + 0.5) / n for n in (width, height)]
    means, halves = [], []
    for profile, centre in zip((mass.sum(dim=1), mass.sum(dim=2)), centres, strict=True):
        mean = profile @ centre
        variance = (profile * (centre - mean[:, None]).square()).sum(dim=1)
        means.append(mean)
        halves.append(extent * (variance + 1 / (12 * len(centre) ** 2)).sqrt())  # a cell has a width of its own
    middle, half = torch.stack(means, dim=1), torch.stack(halves, dim=1)
    return torch.cat([middle - half, middle + half], dim=1)


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


def favour(heat: HeatMap, centre: Sequence[float], spread: float, floor: float = 0.0) -> HeatMap:
    """A heat map times a Gaussian about where a region is expected, (x, y) and deviation as shares of the image.

    `floor`, a share of the maximum, is added first: with it the expectation speaks where the map is silent.
    """
    heat = heat + floor * heat.amax(dim=(1, 2), keepdim=True)
    height, width = heat.shape[1:]
    x = (torch.arange(width, device=heat.device) + 0.5) / width - centre[0]
    y = (torch.arange(height, device=heat.device) + 0.5) / height - centre[1]
    return heat * torch.exp(-(x.square() + y[:, None].square()) / (2 * spread**2))


class RegionCropper(nn.Module):
    """Look, box the carpal bones, black them out, look again, box the hand, cut both from the source.

    The locator is always in eval mode here: looking never moves its batch-norm statistics.

    Args:
        locator: the network that looks.
        px: sides of the (carpal, hand) crops.
        reading: how the heat map is read, one of `baa.nets.heatmap.READINGS`.
        rule: `peak` (the paper's connected component) or `moments` (smooth).
        threshold, margin: of `peak_box`.
        sharpness: of `moments_box`.
        centres: where the (carpal, hand) region is expected in an upright hand, (x, y) as shares of the image.
        spreads: how far from there, one standard deviation; 0 expects nothing (the paper). A locator may well look at fingers
            first; what it sees in the expected place then decides.
        floor: share of the map's maximum that counts as seen everywhere, where there is an expectation.
        extents: half sides of the (carpal, hand) box, in standard deviations, of `moments_box`.
        smallest, largest: limits of the (carpal, hand) box's side, as shares of the image.
        typical: side of the centred (carpal, hand) box that stands in for a degenerate map's.
        half_precision: whether the locator looks in bfloat16; heat maps and boxes are float32 all the same.
        graph: how far a loss on the boxes or crops reaches into the locator, see `heat_map`; boxes of `peak` pass nothing on.

    Shapes:
        Film of B -> Regions of B
    """

    def __init__(
        self,
        locator: Locator,
        *,
        px: Sequence[int] = (300, 300),
        reading: str = "relu",
        rule: str = "peak",
        threshold: float = 0.5,
        margin: float = 0.03,
        sharpness: float = 2.0,
        extents: Sequence[float] = (1.5, 2.0),
        centres: Sequence[Sequence[float]] = ((0.5, 0.69), (0.5, 0.4)),
        spreads: Sequence[float] = (0.0, 0.0),
        floor: float = 0.0,
        smallest: Sequence[float] = (0.2, 0.4),
        largest: Sequence[float] = (0.4, 0.8),
        typical: Sequence[float] = (0.3, 0.6),
        half_precision: bool = False,
        graph: Graph = "none",
    ) -> None:
        super().__init__()
        self.locator = locator
        self.px = px
        self.reading = reading
        self.rule = rule
        self.threshold = threshold
        self.margin = margin
        self.sharpness = sharpness
        self.extents = extents
        self.centres = centres
        self.spreads = spreads
        self.floor = floor
        self.smallest = smallest
        self.largest = largest
        self.typical = typical
        self.half_precision = half_precision
        self.graph = graph
        self.train(False)

    def train(self, mode: bool = True) -> "RegionCropper":
        """Stay in eval mode, whatever a trainer asks."""
        return super().train(False)

    def forward(self, film: Film) -> Regions:
        boxes, heat, fallback = self.locate(film)
        return Regions(boxes, heat, fallback, self.cut(film, boxes))

    def locate(self, film: Film) -> tuple[Tensor, Tensor, Tensor]:
        """Both looks, without the cut: boxes [B, 2, 4], heat [B, 2, h, w], fallback [B, 2]."""
        view = film.view(self.locator.px)
        return self.cascade(view, self.features(view))

    def cascade(self, view: GreyImage, features: FeatureMap) -> tuple[Tensor, Tensor, Tensor]:
        """`locate`, from a view whose features are known."""
        carpal_heat = self.read(features, CARPAL)
        carpal, carpal_fallback = self.box(carpal_heat, CARPAL)
        hand_heat = self.read(self.features(black_out(view, carpal)), HAND)
        hand, hand_fallback = self.box(hand_heat, HAND)
        return (
            torch.stack([carpal, hand], dim=1),
            torch.stack([carpal_heat, hand_heat], dim=1),
            torch.stack([carpal_fallback, hand_fallback], dim=1),
        )

    def recall(self, film: Film, remembered: Float[Tensor, "batch 2 4"]) -> Regions:
        """The regions of a film from the boxes found in its source: no look at all."""
        boxes = torch.stack([carry(remembered[:, region], film.frame) for region in (CARPAL, HAND)], dim=1)
        return Regions(boxes, None, None, self.cut(film, boxes))

    def cut(self, film: Film, boxes: Float[Tensor, "batch 2 4"]) -> tuple[Tensor, Tensor]:
        """Both crops, each [B, 1, px, px] of its own px, straight from the source."""
        carpal, hand = (film.crop(boxes[:, i], self.px[i], self.largest[i]) for i in (CARPAL, HAND))
        return carpal, hand

    def features(self, view: GreyImage) -> FeatureMap:
        """What the locator makes of a view, [B, C, h, w], where it is read; with a graph only if one is asked for."""
        kept = torch.is_grad_enabled() and self.graph != "none"
        with torch.set_grad_enabled(kept), torch.autocast(view.device.type, torch.bfloat16, enabled=self.half_precision):
            return self.locator.features(view)

    def read(self, features: FeatureMap, region: int) -> Float[Tensor, "batch height width"]:
        """The heat map of features for a region, finer than them where a place is expected."""
        graph = self.graph if features.requires_grad else "none"
        heat = heat_map(self.locator.head, features, self.reading, graph)
        if not self.spreads[region]:
            return heat
        fine = upsample(heat, HEAT_GRID)  # an expectation is narrower than a cell
        return favour(fine, self.centres[region], self.spreads[region], self.floor)

    def box(self, heat: HeatMap, region: int) -> tuple[Boxes, Bool[Tensor, " batch"]]:
        """The square box of a region, and where the typical one had to stand in."""
        fallback = degenerate(heat)
        heat = heat.nan_to_num()
        if self.rule == "peak":
            found = peak_box(heat, threshold=self.threshold, margin=self.margin)
        else:
            found = moments_box(heat, sharpness=self.sharpness, extent=self.extents[region])
        half = self.typical[region] / 2
        typical = found.new_tensor([0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half])
        found = torch.where(fallback[:, None], typical, found)
        return square_inside(found, self.smallest[region], self.largest[region]), fallback
