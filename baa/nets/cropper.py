"""From heat maps to crops: the cascade of Li et al. 2023 (sec. 2.2), batched on the device."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from baa.nets.attention import (
    PUBLISHED,
    Attribution,
    DifferentiablePart,
    GaussianFilter,
    HeatMap,
    closed_form_grad_cam,
    grad_cam,
    locator_heat_map,
)
from baa.nets.backbone import FeatureMap, GrayImage
from baa.nets.boxes import HEAT_GRID, BoxFinder, hottest, square_at, square_inside, upsample, varies
from baa.nets.locator import Locator
from baa.nets.regions import PRIOR, RAW, Places, Region, Regions
from baa.nets.view import Boxes, View, black_out


class RegionCropper(nn.Module):
    """For each region: read a heat map, find a box, hide it. Then cut all crops from the source.

    The locator is always in eval mode here, so that localizing never moves its batch norm statistics.

    Args:
        locator: the network whose heat maps are read.
        regions: by name, in the order in which they are found.
        attribution: how heat maps are read.
        box_method: `peak` (connected hot cells) or `moments` (mean and spread, differentiable).
        threshold: share of the maximum that is hot; also what a mode needs to be one.
        shift_radius: of `lowest_mode`.
        margin: of `peak_span`.
        sharpness: of `moments_span`.
        prior_origin: whether prior centers count from the corner of the `image` or from the mean of the first `heat_map`.
        prior_floor: added to the heat map before the prior, as a share of its maximum.
        half_precision: run the locator in bfloat16. Heat maps and boxes are float32 all the same.
        differentiable: which part of the heat map a loss on boxes or crops reaches.
        closed_form: read Grad-CAM without autograd, see `closed_form_grad_cam`.

    Shapes:
        View of B -> Regions of B: boxes [B, R, 4], points [B, R, 2], heat [B, R, h, w], crops [B, 1, px, px] by name
    """

    prior_centers: Tensor
    typical_halves: Tensor
    typical_boxes: Tensor

    def __init__(
        self,
        locator: Locator,
        regions: Mapping[str, Region],
        *,
        attribution: Attribution = PUBLISHED,
        box_method: str = "peak",
        threshold: float = 0.5,
        shift_radius: float = 0.15,
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
        self.shift_radius = shift_radius
        self.margin = margin
        self.sharpness = sharpness
        self.prior_origin = prior_origin
        self.prior_floor = prior_floor
        self.half_precision = half_precision
        self.differentiable = differentiable
        self.closed_form = closed_form
        self.has_prior = any(region.prior_sigma > 0 for region in self.regions.values())
        self.finder = BoxFinder()
        sigma = attribution.smoothing
        self.smoothing: nn.Module = GaussianFilter(sigma, HEAT_GRID) if sigma else nn.Identity()
        centers = torch.tensor([region.prior_center for region in self.regions.values()])
        halves = torch.tensor([[region.fallback_side / 2] for region in self.regions.values()])
        self.register_buffer("prior_centers", centers, persistent=False)
        self.register_buffer("typical_halves", halves, persistent=False)
        self.register_buffer("typical_boxes", square_at(centers, halves), persistent=False)
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

        Returns:
            Boxes [B, R, 4], points [B, R, 2] and heat maps [B, R, h, w]; no crops.
        """
        found: list[_Located] = []
        maps: list[Tensor] = []
        for i, region in enumerate(self.regions.values()):
            if found:
                image, features = black_out(image, found[-1].place.boxes), None
            maps.append(self.heat_map(image, features, flip_average=region.flip_average))
            fine = upsample(maps[-1], HEAT_GRID)
            if not found:
                expected, typical = self._expected(fine)
            found.append(self._locate(maps[-1], fine, region, expected[:, i], typical[:, i]))
        boxes, points = _stack([located.place for located in found])
        fallback = ~torch.stack([located.sure for located in found], dim=1)
        points = points.masked_fill(fallback[:, :, None], torch.nan)
        instead = {}
        if self.has_prior:
            instead[RAW] = _stack([located.by_heat for located in found])
            instead[PRIOR] = _stack([located.by_prior for located in found])
        return Regions(boxes, points, torch.stack(maps, dim=1), fallback, {}, instead)

    def _locate(
        self,
        heat: HeatMap,
        fine: Float[Tensor, "batch fine fine"],
        region: Region,
        expected: Float[Tensor, "batch 2"],
        typical: Boxes,
    ) -> "_Located":
        """Find a region [B, ...] in its heat map, and where heat map and prior alone put it.

        `fine` is the map on the grid of the box finder. The box of a map without a peak is a typical one, where the region is
        expected.
        """
        cell = hottest(fine)
        sure = varies(heat) if region.prior_sigma else self.finder.has_peak(heat, cell)
        by_heat = by_both = by_prior = self._place(fine, self.finder.point(cell), region)
        if region.prior_sigma:
            by_both, by_prior = (
                self._place(map_, self.finder.peak(map_), region)
                for map_ in (
                    self.finder.apply_prior(fine, expected, region.prior_sigma, self.prior_floor),
                    self.finder.apply_prior(torch.ones_like(fine), expected, region.prior_sigma),
                )
            )
        elif self.has_prior:
            by_prior = Places(*(torch.full_like(part, torch.nan) for part in by_heat))
        place = by_both._replace(boxes=torch.where(sure[:, None], by_both.boxes, typical))
        return _Located(place, by_heat, by_prior, sure)

    def as_published(self) -> "RegionCropper":
        """Return a cropper of the same regions that finds them as the paper does: Grad-CAM, ReLU, peak, no prior."""
        regions = {name: region._replace(lowest_mode=False, prior_sigma=0.0) for name, region in self.regions.items()}
        return RegionCropper(self.locator, regions, half_precision=self.half_precision)

    def crop_at(self, view: View, cached_boxes: Float[Tensor, "batch region 4"]) -> Regions:
        """Cut crops at boxes that were found in the source, without running the locator.

        Args:
            view: of B.
            cached_boxes: [B, R, 4], as shares of the source.

        Returns:
            Boxes [B, R, 4] as shares of the view, and crops [B, 1, px, px] by name.
        """
        boxes = view.boxes_from_source(cached_boxes)
        return Regions(boxes, None, None, None, self.cut(view, boxes))

    def cut(self, view: View, boxes: Float[Tensor, "batch region 4"]) -> dict[str, Tensor]:
        """Cut a crop [B, 1, px, px] of each region at boxes [B, R, 4] from the source, with one resampling."""
        crops = view.crops(boxes, [(region.px, region.max_side) for region in self.regions.values()])
        return dict(zip(self.regions, crops, strict=True))

    def features(self, image: GrayImage) -> FeatureMap:
        """Compute the feature map F'' [B, C, h, w] of the locator's view [B, 1, px, px].

        It has a graph only where a loss is to reach it.
        """
        kept = torch.is_grad_enabled() and self.differentiable != "none"
        with torch.set_grad_enabled(kept), self._autocast(image):
            return self.locator.features(image)

    def heat_map(
        self, image: GrayImage, features: Float[Tensor, "batch _ _ _"] | None = None, *, flip_average: bool = False
    ) -> HeatMap:
        """Read the heat map of an image.

        Args:
            image: the locator's view [B, 1, px, px].
            features: its feature map F'' [B, C, h, w], which Grad-CAM needs, if it has been computed already.
            flip_average: average the maps of the image and its mirror image; Grad-CAM does not.

        Returns:
            [B, h, w], not negative. Gradient times activation is resampled to `HEAT_GRID` cells a side, and smoothed there.
        """
        part = self.differentiable if torch.is_grad_enabled() else "none"
        if self.attribution.method == "gradient_x_activation":
            with self._autocast(image):
                heat = locator_heat_map(self.locator, image, self.attribution, part, flip_average=flip_average)
            return self.smoothing(upsample(heat, HEAT_GRID))
        features = self.features(image) if features is None else features
        if self.closed_form:
            return closed_form_grad_cam(self.locator.head, features, self.attribution.mode)
        return grad_cam(self.locator.head, features, self.attribution.mode, part if features.requires_grad else "none")

    def _autocast(self, image: GrayImage) -> torch.autocast:
        return torch.autocast(image.device.type, torch.bfloat16, enabled=self.half_precision)

    def _expected(self, first: HeatMap) -> tuple[Float[Tensor, "batch region 2"], Float[Tensor, "batch region 4"]]:
        """Where the first heat map lets all regions be expected [B, R, 2], and boxes of typical size there [B, R, 4]."""
        if self.prior_origin == "image":
            count = first.shape[0]
            return self.prior_centers.expand(count, -1, -1), self.typical_boxes.expand(count, -1, -1)
        mean = torch.where(first.amax(dim=(1, 2))[:, None] > 0, self.finder.moments(first)[0], 0.5)
        expected = mean[:, None] + self.prior_centers
        return expected, square_at(expected, self.typical_halves.expand(*expected.shape[:2], 1))

    def _place(self, heat: HeatMap, peak: Float[Tensor, "batch 2"], region: Region) -> Places:
        """Find the point and the box [B, 4] of a region in a map on the grid of the box finder."""
        find, points = self.finder, peak
        if region.lowest_mode:
            points = find.lowest_mode(heat, peak, self.threshold, self.shift_radius)
        if self.box_method == "peak":
            about = points if region.lowest_mode else None
            span = find.peak_span(heat, threshold=self.threshold, margin=self.margin, points=about)
        elif region.lowest_mode:
            span = find.window_span(heat, points, region.extent)
        else:
            span = find.moments_span(heat, sharpness=self.sharpness, extent=region.extent)
        return Places(square_inside(span, region.min_side, region.max_side), points)


class _Located(NamedTuple):
    """A region in one heat map: its place, by heat map and prior alone, and whether the map has a peak [B]."""

    place: Places
    by_heat: Places
    by_prior: Places
    sure: Tensor


def _stack(places: Sequence[Places]) -> Places:
    """Stack the places of each region: [B, R, ...]."""
    return Places(*(torch.stack(parts, dim=1) for parts in zip(*places, strict=True)))
