"""The input check: whether a radiograph shows one whole hand with its fingers up; rotation and mirroring to make it so."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from baa.nets.backbone import FeatureMap, GrayImage
from baa.nets.laterality import PX, SURE, Laterality
from baa.nets.view import Picture, View

QUARTERS = 4

GRID = 3
"""Cells a side that a feature map is pooled to. Their places matter: half a hand consists of the same parts as a whole one."""


class InputCheck(nn.Module):
    """A linear classifier of the locator's feature map (F'' of Li et al. 2023), and a network for laterality.

    Args:
        channels: of the feature map.

    Shapes:
        feature map [B, C, h, w] -> OOD score [B]; above 0: not recognized as one whole upright hand
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
    """Average a feature map [B, C, h, w] to the grid of the input check: float32 [B, C, 3, 3]."""
    return F.adaptive_avg_pool2d(features.float(), GRID)


class Oriented(NamedTuple):
    """Radiographs in the orientation in which they are read.

    For radiographs that were not checked, both scores are NaN, and `locator_view` and `features` are None.

    Args:
        view: of B.
        ood_score: [B], in this orientation.
        laterality: [B], the logit of being mirrored, before `mirrored` was applied.
        quarters: [B]; the view is the source rotated counterclockwise by quarters of a circle, then mirrored.
        mirrored: [B] bool.
        locator_view: [B, 1, px, px], the view rendered for the locator.
        features: [B, C, h, w], the locator's features of it.
    """

    view: View
    ood_score: Float[Tensor, " batch"]
    laterality: Float[Tensor, " batch"]
    quarters: Int64[Tensor, " batch"]
    mirrored: Bool[Tensor, " batch"]
    locator_view: Picture | None = None
    features: FeatureMap | None = None

    @classmethod
    def as_given(cls, source: GrayImage) -> "Oriented":
        """Take radiographs [B, 1, S, S] as they are, not checked."""
        unknown = source.new_full((source.shape[0],), torch.nan)
        unmoved = torch.zeros(source.shape[0], dtype=torch.long, device=source.device)
        return cls(View.of(source), unknown, unknown, unmoved, unmoved.bool())


def orient(source: GrayImage, px: int, features: Callable[[Tensor], Tensor], input_check: InputCheck) -> Oriented:
    """Rotate radiographs upright and mirror the clearly mirrored ones.

    Score each radiograph as given. If it is not recognized, try the three other rotations. If it is recognized and clearly
    mirrored, mirror it. A rotation or mirror image is used only if it is recognized.

    Args:
        source: [B, 1, S, S] in [0, 1].
        px: side of the locator's view.
        features: of a locator's view [B, 1, px, px], a feature map [B, C, h, w].
        input_check: trained on these features.

    Returns:
        The radiographs in their orientation, with scores [B].
    """

    def score(source: Tensor, quarters: Tensor, mirrored: Tensor) -> _Scored:
        view = View.of(source).turned(quarters, mirrored).render(px)
        seen = features(view)
        return _Scored(quarters, mirrored, view, seen, input_check(seen))

    as_given = torch.zeros(source.shape[0], dtype=torch.long, device=source.device)
    scored = score(source, as_given, as_given.bool())
    unknown = (scored.ood_score > 0).nonzero()[:, 0]
    for quarters in range(1, QUARTERS) if len(unknown) else ():
        other = score(source[unknown], torch.full_like(unknown, quarters), torch.zeros_like(unknown).bool())
        scored = scored.updated(unknown, other, other.ood_score < scored.ood_score[unknown])
    upright = View.of(source).turned(scored.quarters, scored.mirrored)
    laterality = input_check.laterality(upright.render(PX))
    mirrored = ((scored.ood_score <= 0) & (laterality > SURE)).nonzero()[:, 0]
    if len(mirrored):
        other = score(source[mirrored], scored.quarters[mirrored], torch.ones_like(mirrored).bool())
        scored = scored.updated(mirrored, other, torch.ones_like(mirrored).bool())
    return Oriented(
        view=View.of(source).turned(scored.quarters, scored.mirrored),
        ood_score=scored.ood_score,
        laterality=laterality,
        quarters=scored.quarters,
        mirrored=scored.mirrored,
        locator_view=scored.locator_view,
        features=scored.features,
    )


class _Scored(NamedTuple):
    """An orientation of radiographs, and what the locator and the input check make of it."""

    quarters: Tensor
    mirrored: Tensor
    locator_view: Tensor
    features: Tensor
    ood_score: Tensor

    def updated(self, rows: Tensor, other: "_Scored", allowed: Tensor) -> "_Scored":
        """With the rows of another orientation where it is allowed and recognized."""
        chosen = allowed & (other.ood_score <= 0)
        pairs = zip(self, other, strict=True)
        return _Scored(*(mine.index_copy(0, rows[chosen], theirs[chosen]) for mine, theirs in pairs))
