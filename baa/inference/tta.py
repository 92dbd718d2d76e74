"""Test-time augmentation: how far apart the ages of slightly moved views of a radiograph are."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baa.nets.ensemble import Ensemble
from baa.nets.heads import clamp_to_age_range
from baa.nets.regions import Regions
from baa.nets.two_stage import BoneAgeModel
from baa.nets.view import View, about_center

DEGREES = 8.0
"""Rotation to either side: about half of the most in training."""


@torch.no_grad()
def disagreement(
    model: BoneAgeModel, view: View, regions: Regions | None, sex: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Compute the highest age minus the lowest, in months: as read, mirrored, and rotated to either side.

    Args:
        model: in eval mode.
        view: of B, as read.
        regions: of the view. They move with it and are not found again.
        sex: of `Sex`.
    """
    if isinstance(model, Ensemble):
        months = model.mean([_ages(member, view, own, sex) for member, own in model.with_regions(view, regions)])
    else:
        months = _ages(model, view, regions, sex)
    return months.amax(dim=0) - months.amin(dim=0)


def _ages(
    model: BoneAgeModel, view: View, regions: Regions | None, sex: Int[Tensor, " batch"]
) -> Float[Tensor, "movement batch"]:
    ages = []
    for affine in _movements(view):
        moved = view._replace(affine=view.affine @ affine)
        if model.estimator is None:
            ages.append(model(moved, sex).months)
            continue
        cut = None if regions is None else _cut(model, view, moved, regions)
        ages.append(clamp_to_age_range(model.estimator(model.streams(moved, cut), sex).months))
    return torch.stack(ages)


def _cut(model: BoneAgeModel, view: View, moved: View, regions: Regions) -> Regions:
    assert model.cropper is not None
    return model.cropper.crop_at(moved, view.boxes_in_source(regions.boxes))


def _movements(view: View) -> list[Float[Tensor, "batch 3 3"]]:
    """Affine maps of the identity, a mirror image, and a rotation to either side, about the center."""
    linear = [[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 1.0]]]
    for degrees in (-DEGREES, DEGREES):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        linear.append([[c, -s], [s, c]])
    return [about_center(view.affine.new_tensor(matrix).expand(len(view.affine), 2, 2)) for matrix in linear]
