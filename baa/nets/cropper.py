"""From heat maps to crops: the cascade of Li et al. 2023 (sec. 2.2), batched on the device."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baa.nets.attention import DifferentiablePart, HeatMap, closed_form_heat_map, heat_map
from baa.nets.backbone import FeatureMap, GrayImage
from baa.nets.boxes import HEAT_GRID, apply_prior, degenerate, moments, moments_box, peak_box, square_inside, upsample
from baa.nets.locator import Locator
from baa.nets.view import Boxes, View, black_out


class Region(NamedTuple):
    """How the box of one region is found and cut. Lengths are shares of the image side.

    px: side of the crop in pixels. prior_center (x, y), prior_sigma: a Gaussian where the region is expected; a sigma of 0
    is no prior (the paper). extent: half side of a `moments` box in standard deviations. min_side, max_side: limits of the
    box. fallback_side: side of the centered box that replaces the box of a degenerate heat map.
    """

    px: int
    extent: float
    min_side: float
    max_side: float
    fallback_side: float
    prior_center: Sequence[float] = (0.5, 0.5)
    prior_sigma: float = 0.0


class Regions(NamedTuple):
    """The R regions of a batch, in the cropper's order.

    boxes [B, R, 4] as shares of the view; heat [B, R, h, w], not negative, each map with the regions before it hidden;
    fallback [B, R] bool: the map was degenerate and a centered box replaces it; crops: [B, 1, px, px] by name.
    Cached boxes come without heat and fallback.
    """

    boxes: Tensor
    heat: Tensor | None
    fallback: Tensor | None
    crops: dict[str, Tensor]


class RegionCropper(nn.Module):
    """For each region: read a heat map, find a box, hide it. Then cut all crops from the source.

    The locator is always in eval mode here, so that localizing never moves its batch norm statistics.

    Args:
        locator: the network whose heat maps are read.
        regions: by name, in the order in which they are found.
        cam_mode: how the heat map is read, one of `baa.nets.attention.CAM_MODES`.
        box_method: `peak` (the hottest connected cells) or `moments` (mean and spread, differentiable).
        threshold, margin: of `peak_box`.
        sharpness: of `moments_box`.
        prior_origin: whether prior centers count from the corner of the `image` or from the mean of the first `heat_map`.
        prior_floor: added to the heat map before the prior, as a share of its maximum.
        half_precision: run the locator in bfloat16. Heat maps and boxes are float32 all the same.
        differentiable: which part of Grad-CAM a loss on boxes or crops reaches, see `heat_map`.
        closed_form: read heat maps without autograd, see `closed_form_heat_map`.

    Shapes:
        View of B -> Regions of B
    """

    def __init__(
        self,
        locator: Locator,
        regions: Mapping[str, Region],
        *,
        cam_mode: str = "relu",
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
        self.cam_mode = cam_mode
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
            features: its feature map F'' [B, C, h, w], if it has been computed already.
        """
        boxes: list[Tensor] = []
        maps: list[Tensor] = []
        fallbacks: list[Tensor] = []
        features = self.features(image) if features is None else features
        origin: Tensor | None = None
        for region in self.regions.values():
            if boxes:
                image = black_out(image, boxes[-1])
                features = self.features(image)
            heat = self.heat_map(features)
            origin = self._prior_origin(heat) if origin is None else origin
            heat = self._with_prior(heat, region, origin)
            box, fallback = self._box(heat, region)
            boxes.append(box)
            maps.append(heat)
            fallbacks.append(fallback)
        return Regions(torch.stack(boxes, dim=1), torch.stack(maps, dim=1), torch.stack(fallbacks, dim=1), {})

    def crop_at(self, view: View, cached_boxes: Float[Tensor, "batch region 4"]) -> Regions:
        """Cut crops at boxes that were found in the source, without running the locator."""
        boxes = view.boxes_from_source(cached_boxes)
        return Regions(boxes, None, None, self.cut(view, boxes))

    def cut(self, view: View, boxes: Float[Tensor, "batch region 4"]) -> dict[str, Tensor]:
        """Cut [B, 1, px, px] of each region from the source, with one resampling."""
        return {
            name: view.crop(box, region.px, region.max_side)
            for (name, region), box in zip(self.regions.items(), boxes.unbind(dim=1), strict=True)
        }

    def features(self, image: GrayImage) -> FeatureMap:
        """Compute the locator's feature map F'' [B, C, h, w]; with a graph only where a loss shall reach it."""
        kept = torch.is_grad_enabled() and self.differentiable != "none"
        with torch.set_grad_enabled(kept), torch.autocast(image.device.type, torch.bfloat16, enabled=self.half_precision):
            return self.locator.features(image)

    def heat_map(self, features: FeatureMap) -> HeatMap:
        """Read the heat map of a feature map."""
        if self.closed_form:
            return closed_form_heat_map(self.locator.head, features, self.cam_mode)
        part = self.differentiable if features.requires_grad else "none"
        return heat_map(self.locator.head, features, self.cam_mode, part)

    def _prior_origin(self, first: HeatMap) -> Float[Tensor, "batch 2"]:
        if self.prior_origin == "image":
            return first.new_zeros(first.shape[0], 2)
        nonzero = first.amax(dim=(1, 2)) > 0
        return torch.where(nonzero[:, None], moments(first)[0], 0.5)

    def _with_prior(
        self, heat: HeatMap, region: Region, origin: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch height width"]:
        """Multiply by the prior, on a finer grid. A map with a prior is degenerate only if it is zero or not finite."""
        if not self.has_prior:
            return heat
        fine = upsample(heat, HEAT_GRID)  # a prior is narrower than a cell
        if not region.prior_sigma:
            return fine
        center = torch.stack([origin[:, axis] + region.prior_center[axis] for axis in (0, 1)], dim=1)
        return apply_prior(fine, center, region.prior_sigma, self.prior_floor)

    def _box(self, heat: HeatMap, region: Region) -> tuple[Boxes, Bool[Tensor, " batch"]]:
        fallback = degenerate(heat)
        heat = heat.nan_to_num()
        if self.box_method == "peak":
            found = peak_box(heat, threshold=self.threshold, margin=self.margin)
        else:
            found = moments_box(heat, sharpness=self.sharpness, extent=region.extent)
        low, high = 0.5 - region.fallback_side / 2, 0.5 + region.fallback_side / 2
        centered = torch.cat([torch.full_like(found[:, :2], low), torch.full_like(found[:, 2:], high)], dim=1)
        found = torch.where(fallback[:, None], centered, found)
        return square_inside(found, region.min_side, region.max_side), fallback
