"""From heat maps to crops: the cascade of Li et al. 2023 (sec. 2.2), batched on the device."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baa.nets.attention import (
    PUBLISHED,
    Attribution,
    DifferentiablePart,
    HeatMap,
    closed_form_grad_cam,
    grad_cam,
    locator_heat_map,
)
from baa.nets.backbone import FeatureMap, GrayImage
from baa.nets.boxes import (
    HEAT_GRID,
    apply_prior,
    degenerate,
    flat,
    lowest_mode,
    moments,
    moments_box,
    peak,
    peak_box,
    square_inside,
    upsample,
    window_box,
)
from baa.nets.locator import Locator
from baa.nets.view import Boxes, View, black_out

RAW, PRIOR = "raw", "prior"
"""What else places are found from: the heat map alone, the spatial prior alone."""


class Region(NamedTuple):
    """How the box of one region is found and cut. Lengths are shares of the image side.

    px: side of the crop in pixels. lowest_mode: the region is the lowest mode of the heat map, nearest to the forearm of an
    upright hand; otherwise its peak. prior_center (x, y): where the region is expected, and where the box that replaces a
    degenerate heat map's lies. prior_sigma: of a Gaussian prior there; 0 is no prior (the paper). extent: half side of a
    `moments` box in standard deviations. min_side, max_side: limits of the box. fallback_side: of the box that replaces a
    degenerate heat map's.
    """

    px: int
    extent: float
    min_side: float
    max_side: float
    fallback_side: float
    lowest_mode: bool = False
    prior_center: Sequence[float] = (0.5, 0.5)
    prior_sigma: float = 0.0


class Places(NamedTuple):
    """Boxes [B, R, 4] of R regions, and the points [B, R, 2] that they were found from, as shares of the view."""

    boxes: Tensor
    points: Tensor

    def in_source(self, view: View) -> "Places":
        """The same places as shares of the source of a view."""
        return Places(view.boxes_in_source(self.boxes), view.points_in_source(self.points))


class Regions(NamedTuple):
    """The R regions of a batch, in the cropper's order.

    boxes [B, R, 4] and points [B, R, 2] (x, y): where each region is, as shares of the view, a point NaN if none was found.
    heat [B, R, h, w]: the locator's heat maps, not negative and without any prior, each with the regions before it hidden.
    fallback [B, R] bool: the map was degenerate and a box where the region is expected replaces it. crops: [B, 1, px, px] by
    name. instead: where the regions would be by the heat map alone (`raw`) or the prior alone (`prior`), empty for a cropper
    without a prior. Cached boxes come alone, with their crops.
    """

    boxes: Tensor
    points: Tensor | None
    heat: Tensor | None
    fallback: Tensor | None
    crops: dict[str, Tensor]
    instead: Mapping[str, Places] = MappingProxyType({})

    def prior_shares(self) -> Float[Tensor, "batch region"] | None:
        """Return the share of each box's place that the spatial prior decided; None without a prior.

        0: the box lies where the heat map alone puts it; 1: where the prior alone does. NaN for a region without a prior.
        """
        if not self.instead:
            return None
        by_heat, by_prior = ((self.boxes - self.instead[name].boxes)[..., :2] for name in (RAW, PRIOR))
        far_from_heat, far_from_prior = by_heat.norm(dim=-1), by_prior.norm(dim=-1)
        return far_from_heat / (far_from_heat + far_from_prior).clamp(min=1e-9)

    def in_source(self, view: View) -> "Regions":
        """The same regions as shares of the source of a view in steps of 90 degrees."""
        assert self.points is not None
        assert self.heat is not None
        boxes, points = Places(self.boxes, self.points).in_source(view)
        instead = {name: places.in_source(view) for name, places in self.instead.items()}
        return self._replace(boxes=boxes, points=points, heat=view.maps_in_source(self.heat), instead=instead)


class RegionCropper(nn.Module):
    """For each region: read a heat map, find a box, hide it. Then cut all crops from the source.

    The locator is always in eval mode here, so that localizing never moves its batch norm statistics.

    Args:
        locator: the network whose heat maps are read.
        regions: by name, in the order in which they are found.
        attribution: how heat maps are read.
        box_method: `peak` (connected hot cells) or `moments` (mean and spread, differentiable).
        threshold: share of the maximum that is hot; also what a mode needs to be one.
        margin: of `peak_box`.
        sharpness: of `moments_box`.
        prior_origin: whether prior centers count from the corner of the `image` or from the mean of the first `heat_map`.
        prior_floor: added to the heat map before the prior, as a share of its maximum.
        half_precision: run the locator in bfloat16. Heat maps and boxes are float32 all the same.
        differentiable: which part of the heat map a loss on boxes or crops reaches.
        closed_form: read Grad-CAM without autograd, see `closed_form_grad_cam`.

    Shapes:
        View of B -> Regions of B
    """

    def __init__(
        self,
        locator: Locator,
        regions: Mapping[str, Region],
        *,
        attribution: Attribution = PUBLISHED,
        box_method: str = "peak",
        threshold: float = 0.5,
        margin: float = 0.03,
        sharpness: float = 2.0,
        prior_origin: str = "image",
        prior_floor: float = 0.0,
        half_precision: bool = False,
        differentiable: DifferentiablePart = "none",
        closed_form: bool = False,
    ) -> None:
        super().__init__()
        self.locator = locator
        self.regions = dict(regions)
        self.attribution = attribution
        self.box_method = box_method
        self.threshold = threshold
        self.margin = margin
        self.sharpness = sharpness
        self.prior_origin = prior_origin
        self.prior_floor = prior_floor
        self.half_precision = half_precision
        self.differentiable = differentiable
        self.closed_form = closed_form
        self.has_prior = any(region.prior_sigma > 0 for region in self.regions.values())
        self.train(False)

    def train(self, mode: bool = True) -> "RegionCropper":
        """Stay in eval mode, whatever a trainer asks for."""
        return super().train(False)

    def forward(self, view: View) -> Regions:
        regions = self.localize(view.render(self.locator.px))
        return regions._replace(crops=self.cut(view, regions.boxes))

    def localize(self, image: GrayImage, features: FeatureMap | None = None) -> Regions:
        """Find all boxes, without cutting.

        Args:
            image: the locator's view [B, 1, px, px].
            features: its feature map F'' [B, C, h, w], if it has been computed already. Grad-CAM uses it.
        """
        places: list[Places] = []
        instead: dict[str, list[Places]] = {RAW: [], PRIOR: []}
        maps: list[Tensor] = []
        fallbacks: list[Tensor] = []
        origin: Tensor | None = None
        for region in self.regions.values():
            if places:
                image, features = black_out(image, places[-1].boxes), None
            heat = self.heat_map(image, features)
            origin = self._prior_origin(heat) if origin is None else origin
            expected = torch.stack([origin[:, axis] + region.prior_center[axis] for axis in (0, 1)], dim=1)
            fallback = flat(heat) if region.prior_sigma else degenerate(heat)
            maps.append(heat)
            fallbacks.append(fallback)
            heat = heat.nan_to_num()
            raw = self._place(heat, region)
            place = raw
            if region.prior_sigma:
                fine = upsample(heat, HEAT_GRID)  # a prior is narrower than a cell
                place = self._place(apply_prior(fine, expected, region.prior_sigma, self.prior_floor), region)
                alone = apply_prior(torch.ones_like(fine), expected, region.prior_sigma)
                instead[PRIOR].append(self._place(alone, region))
            else:
                instead[PRIOR].append(Places(*(torch.full_like(part, torch.nan) for part in raw)))
            instead[RAW].append(raw)
            places.append(_or_expected(place, fallback, expected, region))
        boxes, points = _stack(places)
        compared = {name: _stack(found) for name, found in instead.items()} if self.has_prior else {}
        return Regions(boxes, points, torch.stack(maps, dim=1), torch.stack(fallbacks, dim=1), {}, compared)

    def as_published(self) -> "RegionCropper":
        """Return a cropper of the same regions that finds them as the paper does: Grad-CAM, ReLU, peak, no prior."""
        regions = {name: region._replace(lowest_mode=False, prior_sigma=0.0) for name, region in self.regions.items()}
        return RegionCropper(self.locator, regions, half_precision=self.half_precision)

    def crop_at(self, view: View, cached_boxes: Float[Tensor, "batch region 4"]) -> Regions:
        """Cut crops at boxes that were found in the source, without running the locator."""
        boxes = view.boxes_from_source(cached_boxes)
        return Regions(boxes, None, None, None, self.cut(view, boxes))

    def cut(self, view: View, boxes: Float[Tensor, "batch region 4"]) -> dict[str, Tensor]:
        """Cut [B, 1, px, px] of each region from the source, with one resampling."""
        return {
            name: view.crop(box, region.px, region.max_side)
            for (name, region), box in zip(self.regions.items(), boxes.unbind(dim=1), strict=True)
        }

    def features(self, image: GrayImage) -> FeatureMap:
        """Compute the locator's feature map F'' [B, C, h, w]; with a graph only where a loss shall reach it."""
        kept = torch.is_grad_enabled() and self.differentiable != "none"
        with torch.set_grad_enabled(kept), self._autocast(image):
            return self.locator.features(image)

    def heat_map(self, image: GrayImage, features: Float[Tensor, "batch _ _ _"] | None = None) -> HeatMap:
        """Read the heat map of an image.

        Args:
            image: the locator's view [B, 1, px, px].
            features: its feature map F'', which Grad-CAM needs, if it has been computed already.
        """
        part = self.differentiable if torch.is_grad_enabled() else "none"
        if self.attribution.method == "gradient_x_activation":
            with self._autocast(image):
                return locator_heat_map(self.locator, image, self.attribution, part)
        features = self.features(image) if features is None else features
        if self.closed_form:
            return closed_form_grad_cam(self.locator.head, features, self.attribution.mode)
        return grad_cam(self.locator.head, features, self.attribution.mode, part if features.requires_grad else "none")

    def _autocast(self, image: GrayImage) -> torch.autocast:
        return torch.autocast(image.device.type, torch.bfloat16, enabled=self.half_precision)

    def _prior_origin(self, first: HeatMap) -> Float[Tensor, "batch 2"]:
        if self.prior_origin == "image":
            return first.new_zeros(first.shape[0], 2)
        first = first.nan_to_num()
        nonzero = first.amax(dim=(1, 2)) > 0
        return torch.where(nonzero[:, None], moments(first)[0], 0.5)

    def _place(self, heat: HeatMap, region: Region) -> Places:
        """Find the point and the box [B, 4] of a region in a finite map."""
        points = lowest_mode(heat, self.threshold) if region.lowest_mode else peak(heat)
        if self.box_method == "peak":
            found = peak_box(heat, threshold=self.threshold, margin=self.margin, points=points if region.lowest_mode else None)
        elif region.lowest_mode:
            found = window_box(heat, points, region.extent)
        else:
            found = moments_box(heat, sharpness=self.sharpness, extent=region.extent)
        return Places(square_inside(found, region.min_side, region.max_side), points)


def _or_expected(place: Places, fallback: Bool[Tensor, " batch"], expected: Float[Tensor, "batch 2"], region: Region) -> Places:
    """Replace the box of a degenerate heat map by one of typical size where the region is expected, and its point by NaN."""
    half = region.fallback_side / 2
    typical: Boxes = torch.cat([expected - half, expected + half], dim=1)
    boxes = torch.where(fallback[:, None], square_inside(typical, region.fallback_side, region.fallback_side), place.boxes)
    return Places(boxes, place.points.masked_fill(fallback[:, None], torch.nan))


def _stack(places: Sequence[Places]) -> Places:
    """Stack the places of each region: [B, R, ...]."""
    return Places(*(torch.stack(parts, dim=1) for parts in zip(*places, strict=True)))
