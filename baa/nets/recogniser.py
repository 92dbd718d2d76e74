"""Whether a radiograph shows what the locator knows: one whole hand, fingers up."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from baa.nets.backbones import FeatureMap, GreyImage
from baa.nets.film import Film
from baa.nets.laterality import Laterality
from baa.nets.regions import RegionCropper, Regions

GRID = 3
"""Cells a side that a feature map is pooled to: what is where matters, since half a hand is made of the same parts."""

QUARTERS = 4


class Recogniser(nn.Module):
    """A linear reading of the locator's feature map, F'' of Li et al. 2023.

    `laterality`, a network of its own, tells whether the hand lies mirrored.

    Args:
        channels: of the feature map.

    Shapes:
        feature map [B, C, h, w] -> strangeness [B]: above 0 where one whole upright hand is not recognised
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(channels, GRID, GRID))
        self.register_buffer("bias", torch.zeros(1))
        self.laterality = Laterality()

    def forward(self, features: FeatureMap) -> Float[Tensor, " batch"]:
        return (cells(features) * self.weight).sum(dim=(1, 2, 3)) + self.bias


def cells(features: FeatureMap) -> Float[Tensor, "batch channels 3 3"]:
    """A feature map on the grid that recognition reads, fp32."""
    return F.adaptive_avg_pool2d(features.float(), GRID)


def turn(source: Float[Tensor, "batch layers px px"], quarters: int) -> Float[Tensor, "batch layers px px"]:
    """Turned anticlockwise by quarters of a circle."""
    return torch.rot90(source, quarters, dims=(2, 3))


def turn_back(boxes: Float[Tensor, "boxes 4"], quarters: int) -> Float[Tensor, "boxes 4"]:
    """Boxes of a turned picture in the one it was made of, as shares of the square."""
    for _ in range(quarters):
        x0, y0, x1, y1 = boxes.unbind(dim=1)
        boxes = torch.stack([1 - y1, x0, 1 - y0, x1], dim=1)
    return boxes


class Recognised(NamedTuple):
    """Radiographs as they were read.

    film; regions; quarters [B]: how far each was turned anticlockwise first; strangeness [B]: that is left; mirrored [B]: the
    logit of lying so.
    """

    film: Film
    regions: Regions
    quarters: Tensor
    strangeness: Tensor
    mirrored: Tensor

    def regions_as_given(self) -> Regions:
        """The regions with boxes and heat maps where they are in what was given."""
        boxes, heat = self.regions.boxes.clone(), self.regions.heat
        heat = heat if heat is None else heat.clone()
        for turned in range(1, QUARTERS):
            rows = self.quarters == turned
            boxes[rows] = turn_back(boxes[rows].flatten(0, 1), turned).view(-1, *boxes.shape[1:])
            if heat is not None:
                heat[rows] = turn(heat[rows], -turned)
        return self.regions._replace(boxes=boxes, heat=heat)


def recognise(cropper: RegionCropper, recogniser: Recogniser, source: GreyImage) -> Recognised:
    """The regions of radiographs, each turned first if it is not recognised as it is but when turned.

    A mirrored one is left as it is: networks are trained on both sides.

    Every radiograph is looked at once, and only what is not recognised in the three other turns too.

    Args:
        cropper: whose locator looks.
        recogniser: trained on that locator.
        source: [B, 1, S, S] in [0, 1].
    """
    view = Film.plain(source).view(cropper.locator.px)
    features = cropper.features(view)
    strangeness = recogniser(features)
    quarters = torch.zeros_like(strangeness, dtype=torch.long)
    strange, upright = (strangeness > 0).nonzero()[:, 0], source.clone()
    for turned in range(1, QUARTERS) if len(strange) else ():
        views = turn(Film.plain(source[strange]).view(cropper.locator.px), turned)
        found = cropper.features(views)
        less = recogniser(found)
        better = (less <= 0) & (less < strangeness[strange])
        rows = strange[better]
        view[rows], features[rows], upright[rows] = views[better], found[better], turn(source[rows], turned)
        strangeness[rows], quarters[rows] = less[better], turned
    boxes, heat, fallback = cropper.cascade(view, features)
    film = Film.plain(upright)
    regions = Regions(boxes, heat, fallback, cropper.cut(film, boxes))
    return Recognised(film, regions, quarters, strangeness, recogniser.laterality(upright))
