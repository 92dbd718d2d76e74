"""The regions of a hand: how each is to be found, and where it was found."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from baa.nets.view import View

RAW, PRIOR = "raw", "prior"
"""What else places are found from: the heat map alone, the spatial prior alone."""


class Region(NamedTuple):
    """Settings for finding and cutting the box of one region. Lengths are shares of the image side.

    px: side of the crop in pixels. lowest_mode: the region is the lowest mode of the heat map, nearest to the forearm of an
    upright hand; otherwise its peak. flip_average: its heat map is the mean of those of the image and its mirror image.
    prior_center (x, y): where the region is expected, and where the box that replaces a degenerate heat map's lies.
    prior_sigma: of a Gaussian prior there; 0 is no prior (the paper). extent: half side of a `moments` box in standard
    deviations. min_side, max_side: limits of the box. fallback_side: of the box that replaces a degenerate heat map's.
    """

    px: int
    extent: float
    min_side: float
    max_side: float
    fallback_side: float
    lowest_mode: bool = False
    flip_average: bool = False
    prior_center: Sequence[float] = (0.5, 0.5)
    prior_sigma: float = 0.0


class Places(NamedTuple):
    """The places of R regions, as shares of the view.

    Args:
        boxes: [B, R, 4], (x0, y0, x1, y1).
        points: [B, R, 2], (x, y), from which the boxes were found.
    """

    boxes: Tensor
    points: Tensor

    def in_source(self, view: View) -> "Places":
        """Convert boxes [B, R, 4] and points [B, R, 2] of a view to shares of its source."""
        return Places(view.boxes_in_source(self.boxes), view.points_in_source(self.points))


class Regions(NamedTuple):
    """The R regions of a batch, in the cropper's order.

    Regions at cached boxes have boxes and crops only.

    Args:
        boxes: [B, R, 4], as shares of the view.
        points: [B, R, 2], (x, y), as shares of the view; NaN where none was found.
        heat: [B, R, h, w], the locator's heat maps, not negative and without any prior. The regions before each are hidden.
        fallback: [B, R] bool; the map was degenerate, so a box where the region is expected replaces its box.
        crops: [B, 1, px, px] by name.
        instead: the places [B, R, 4] by the heat map alone (`raw`) and by the prior alone (`prior`); empty for a cropper
            without a prior.
    """

    boxes: Tensor
    points: Tensor | None
    heat: Tensor | None
    fallback: Tensor | None
    crops: dict[str, Tensor]
    instead: Mapping[str, Places] = MappingProxyType({})

    def prior_shares(self) -> Float[Tensor, "batch region"] | None:
        """Return the share [B, R] of each box's place that the spatial prior decided; None without a prior.

        0: the box lies where the heat map alone puts it; 1: where the prior alone does. NaN for a region without a prior.
        """
        if not self.instead:
            return None
        by_heat, by_prior = ((self.boxes - self.instead[name].boxes)[..., :2] for name in (RAW, PRIOR))
        far_from_heat, far_from_prior = by_heat.norm(dim=-1), by_prior.norm(dim=-1)
        return far_from_heat / (far_from_heat + far_from_prior).clamp(min=1e-9)

    def in_source(self, view: View) -> "Regions":
        """Convert boxes [B, R, 4], points [B, R, 2], heat maps [B, R, h, w] to the source of a view in steps of 90 degrees."""
        assert self.points is not None
        assert self.heat is not None
        boxes, points = Places(self.boxes, self.points).in_source(view)
        instead = {name: places.in_source(view) for name, places in self.instead.items()}
        return self._replace(boxes=boxes, points=points, heat=view.maps_in_source(self.heat), instead=instead)
