"""Whether a radiograph shows what the locator knows: one whole hand, fingers up."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from baa.nets.backbone import FeatureMap, GreyImage
from baa.nets.cropper import RegionCropper, Regions
from baa.nets.laterality import SURE, Laterality
from baa.nets.pose import QUARTERS, Pose, mirror, turn
from baa.nets.view import Film

GRID = 3
"""Cells a side that a feature map is pooled to: what is where matters, since half a hand is made of the same parts."""


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


class Recognised(NamedTuple):
    """Radiographs as they were read.

    film; regions; pose: how each was laid first; strangeness [B]: that is left; laterality [B]: the logit of having lain
    mirrored.
    """

    film: Film
    regions: Regions
    pose: Pose
    strangeness: Tensor
    laterality: Tensor

    def regions_as_given(self) -> Regions:
        """The regions with boxes and heat maps where they are in what was given."""
        heat = self.regions.heat
        return self.regions._replace(
            boxes=self.pose.boxes_back(self.regions.boxes), heat=heat if heat is None else self.pose.lay_back(heat)
        )


def recognise(cropper: RegionCropper, recogniser: Recogniser, source: GreyImage) -> Recognised:
    """The regions of radiographs, each laid upright first, with its thumb where most have it.

    Every radiograph is looked at once; what is not recognised then, in the three other turns too; and, of what is recognised,
    that which surely lies mirrored in its mirror image. A film is read in another pose only if it is recognised in that.

    Args:
        cropper: whose locator looks.
        recogniser: trained on that locator.
        source: [B, 1, S, S] in [0, 1].
    """
    look = _look(cropper, recogniser, source.clone())
    pose = Pose.as_given(len(source), source.device)
    strange = (look.strangeness > 0).nonzero()[:, 0]
    for quarters in range(1, QUARTERS) if len(strange) else ():
        other = _look(cropper, recogniser, turn(source[strange], quarters))
        better = (other.strangeness <= 0) & (other.strangeness < look.strangeness[strange])
        look.put(strange[better], other, better)
        pose.quarters[strange[better]] = quarters
    laterality = recogniser.laterality(look.source)
    mirrored = ((look.strangeness <= 0) & (laterality > SURE)).nonzero()[:, 0]
    if len(mirrored):
        other = _look(cropper, recogniser, mirror(look.source[mirrored]))
        known = other.strangeness <= 0
        look.put(mirrored[known], other, known)
        pose.mirrored[mirrored[known]] = True
    boxes, heat, fallback = cropper.cascade(look.view, look.features)
    film = Film.plain(look.source)
    regions = Regions(boxes, heat, fallback, cropper.cut(film, boxes))
    return Recognised(film, regions, pose, look.strangeness, laterality)


class _Look(NamedTuple):
    """Radiographs [B, 1, S, S], the locator's view of them, its features, and their strangeness [B]."""

    source: Tensor
    view: Tensor
    features: Tensor
    strangeness: Tensor

    def put(self, rows: Tensor, other: "_Look", chosen: Tensor) -> None:
        """The chosen ones of another look in the place of these rows."""
        for mine, others in zip(self, other, strict=True):
            mine[rows] = others[chosen]


def _look(cropper: RegionCropper, recogniser: Recogniser, source: GreyImage) -> _Look:
    view = Film.plain(source).view(cropper.locator.px)
    features = cropper.features(view)
    return _Look(source, view, features, recogniser(features))
