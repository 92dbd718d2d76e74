"""From two heat maps to two crops: the cascade of Li et al. 2023, batched on the device."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baa.nets.attention import Graph, HeatMap, closed_heat_map, heat_map
from baa.nets.backbone import FeatureMap, GreyImage
from baa.nets.boxes import HEAT_GRID, degenerate, favour, moments, moments_box, peak_box, square_inside, upsample
from baa.nets.locator import Locator
from baa.nets.view import Boxes, Film, black_out, carry

CARPAL, HAND = 0, 1
REGIONS = ("carpal", "hand")


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


class RegionCropper(nn.Module):
    """Look, box the carpal bones, black them out, look again, box the hand, cut both from the source.

    The locator is always in eval mode here: looking never moves its batch-norm statistics.

    Args:
        locator: the network that looks.
        px: sides of the (carpal, hand) crops.
        reading: how the heat map is read, one of `baa.nets.attention.READINGS`.
        rule: `peak` (what is connected with the hottest cell) or `moments` (smooth).
        threshold, margin: of `peak_box`.
        sharpness: of `moments_box`.
        centres: where the (carpal, hand) region is expected in an upright hand, (x, y) as shares of the image.
        centres_from: what these count from: the upper left corner of the `image`, or the middle of what the first `look` saw,
            which moves with the hand: a locator looks at fingers of its own accord, and the carpus lies below them.
        spreads: how far from there, one standard deviation; 0 expects nothing (the paper). A locator may well look at fingers
            first; what it sees in the expected place then decides.
        floor: share of the map's maximum that counts as seen everywhere, where there is an expectation.
        extents: half sides of the (carpal, hand) box, in standard deviations, of `moments_box`.
        smallest, largest: limits of the (carpal, hand) box's side, as shares of the image.
        typical: side of the centred (carpal, hand) box that stands in for a degenerate map's.
        half_precision: whether the locator looks in bfloat16; heat maps and boxes are float32 all the same.
        graph: how far a loss on the boxes or crops reaches into the locator, see `heat_map`; boxes of `peak` pass nothing on.
        closed_form: whether heat maps are computed without autograd, see `closed_heat_map`.

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
        centres_from: str = "image",
        spreads: Sequence[float] = (0.0, 0.0),
        floor: float = 0.0,
        smallest: Sequence[float] = (0.2, 0.4),
        largest: Sequence[float] = (0.4, 0.8),
        typical: Sequence[float] = (0.3, 0.6),
        half_precision: bool = False,
        graph: Graph = "none",
        closed_form: bool = False,
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
        self.centres_from = centres_from
        self.spreads = spreads
        self.floor = floor
        self.smallest = smallest
        self.largest = largest
        self.typical = typical
        self.half_precision = half_precision
        self.graph = graph
        self.closed_form = closed_form
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
        first = self.read(features)
        origin = self.origin(first)
        carpal_heat = self.expect(first, CARPAL, origin)
        carpal, carpal_fallback = self.box(carpal_heat, CARPAL)
        hand_heat = self.expect(self.read(self.features(black_out(view, carpal))), HAND, origin)
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

    def read(self, features: FeatureMap) -> HeatMap:
        """The heat map of features."""
        if self.closed_form:
            return closed_heat_map(self.locator.head, features, self.reading)
        return heat_map(self.locator.head, features, self.reading, self.graph if features.requires_grad else "none")

    def origin(self, first: HeatMap) -> Float[Tensor, "batch 2"]:
        """What the expected places count from; the middle of the image where the first look saw nothing."""
        if self.centres_from == "image":
            return first.new_zeros(first.shape[0], 2)
        seen = first.amax(dim=(1, 2)) > 0
        return torch.where(seen[:, None], moments(first)[0], 0.5)

    def expect(self, heat: HeatMap, region: int, origin: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch height width"]:
        """A heat map for a region, finer than it was where a place is expected, counted from an origin (x, y).

        The expectation then speaks for a flat map and for one that is hottest at the rim: degenerate is only what is all zero
        or not finite.
        """
        if not self.spreads[region]:
            return heat
        fine = upsample(heat, HEAT_GRID)  # an expectation is narrower than a cell
        return favour(fine, origin + origin.new_tensor(self.centres[region]), self.spreads[region], self.floor)

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
