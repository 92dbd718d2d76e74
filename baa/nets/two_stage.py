"""The model: a radiograph and sex to an age in months, in two stages (Li et al. 2023)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from baa.nets.backbone import GrayImage
from baa.nets.cropper import RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.heads import AgePrediction, clamp_to_age_range
from baa.nets.input_check import InputCheck, Oriented, orient
from baa.nets.regions import Regions
from baa.nets.view import View
from baa.patient import Sex

WHOLE = "whole"
"""The stream that reads the whole radiograph."""

SMALLEST_SIDE, SIDE_STEP = 64, 16
"""Pixels, of an image that is scaled down in training."""


class BoneAgeModel(nn.Module):
    """Locate the regions, cut them, estimate the age.

    Args:
        cropper: finds and cuts the regions. None for an estimator of the whole radiograph.
        estimator: reads the crops. None for a locator alone, whose own age is the answer.
        whole_px: side of the view that the `whole` stream reads.
        flip_average: in eval mode, average the ages of a radiograph and its mirror image.
        input_check: recognizes one whole upright hand. None accepts every radiograph as it is.

    `lines` [3, 2] has offset and slope by `Sex` of a local calibration; the identity without one.

    Shapes:
        View of B, sex [B] of `baa.patient.Sex` -> AgePrediction of [B]

    Example:
        >>> import torch
        >>> from baa.nets.estimator import Estimator
        >>> from baa.nets.two_stage import BoneAgeModel
        >>> from baa.nets.view import View
        >>> model = BoneAgeModel(None, Estimator(backbones={"whole": "test_resnet"}, conv_pool=()), whole_px=64).eval()
        >>> model(View.of(torch.rand(2, 1, 96, 96)), torch.tensor([0, 1])).months.shape
        torch.Size([2])
    """

    lines: Tensor

    def __init__(
        self,
        cropper: RegionCropper | None,
        estimator: Estimator | None,
        *,
        whole_px: int = 300,
        flip_average: bool = True,
        input_check: InputCheck | None = None,
    ) -> None:
        super().__init__()
        self.cropper = cropper
        self.estimator = estimator
        self.whole_px = whole_px
        self.flip_average = flip_average
        self.input_check = input_check
        self.register_buffer("lines", torch.tensor([[0.0, 1.0]] * len(Sex)), persistent=False)

    def regions(self, view: View) -> Regions | None:
        """Find and cut the regions of a view of B: boxes [B, R, 4], crops [B, 1, px, px]; None without a cropper."""
        return None if self.cropper is None else self.cropper(view)

    def upright(self, source: GrayImage) -> tuple[Oriented, Regions | None]:
        """Rotate and mirror radiographs [B, 1, S, S] as the input check recognizes them, and find their regions."""
        return upright_regions(self.cropper, self.input_check, source)

    def streams(self, view: View, regions: Regions | None, scale: float = 1.0) -> dict[str, Tensor]:
        """Collect the input of each stream.

        Args:
            view: of B.
            regions: of the view.
            scale: share of its side that each image has (progressive resizing).

        Returns:
            Images [B, 1, px, px] by stream.
        """
        crops = {} if regions is None else {name: _scaled(crop, scale) for name, crop in regions.crops.items()}
        if self.estimator is not None and WHOLE in self.estimator.streams:
            crops[WHOLE] = view.render(scaled_side(self.whole_px, scale))
        return crops

    def forward(
        self, view: View, sex: Int[Tensor, " batch"], regions: Regions | None = None, scale: float = 1.0
    ) -> AgePrediction:
        """Estimate ages; in eval mode averaged over flips and clamped to the age range.

        Args:
            view: of B.
            sex: [B], of `Sex`.
            regions: of the view; found here if not given.
            scale: see `streams`.

        Returns:
            Ages in months [B].
        """
        if self.estimator is None:
            assert self.cropper is not None
            prediction: AgePrediction = self.cropper.locator(view.render(self.cropper.locator.px))
            return prediction._replace(months=clamp_to_age_range(self._local(prediction.months, sex)))
        crops = self.streams(view, self.regions(view) if regions is None else regions, scale)
        prediction = self.estimator(crops, sex)
        if self.training:
            return prediction
        other = prediction
        if self.flip_average:
            other = self.estimator({name: crop.flip(-1) for name, crop in crops.items()}, sex)
        return self._averaged(prediction, other, sex)

    def _averaged(self, one: AgePrediction, other: AgePrediction, sex: Tensor) -> AgePrediction:
        """Average the ages of an image and of its mirror image, also those of each stream; make them local and clamp them."""
        alone = [self._averaged(*both, sex) for both in zip(one.alone, other.alone, strict=True)]
        months = self._local((one.months + other.months) / 2, sex)
        return one._replace(months=clamp_to_age_range(months), alone=alone)

    def _local(self, months: Float[Tensor, " batch"], sex: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Apply the lines of a local calibration."""
        offset, slope = self.lines[sex].unbind(dim=1)
        return offset + slope * months

    @property
    def streams_with_ages(self) -> tuple[str, ...]:
        """Names of the streams that give an age of their own, in the order of `AgePrediction.alone`."""
        return tuple(self.estimator.streams) if self.estimator is not None and self.estimator.alone else ()


def upright_regions(
    cropper: RegionCropper | None, input_check: InputCheck | None, source: GrayImage
) -> tuple[Oriented, Regions | None]:
    """Rotate and mirror radiographs as the input check recognizes them, then find and cut their regions.

    Args:
        cropper: finds the regions; its locator's features are what the input check reads.
        input_check: None accepts every radiograph as it is.
        source: [B, 1, S, S] in [0, 1].

    Returns:
        The radiographs in their orientation; their regions, None without a cropper.
    """
    if cropper is None or input_check is None:
        oriented = Oriented.as_given(source)
        return oriented, None if cropper is None else cropper(oriented.view)
    oriented = orient(source, cropper.locator.px, cropper.features, input_check)
    assert oriented.locator_view is not None
    regions = cropper.localize(oriented.locator_view, oriented.features)
    return oriented, regions._replace(crops=cropper.cut(oriented.view, regions.boxes))


def scaled_side(px: int, scale: float) -> int:
    """Return the side of an image of side `px` at a scale, a multiple of 16 pixels."""
    return px if scale == 1 else min(px, max(SMALLEST_SIDE, round(px * scale / SIDE_STEP) * SIDE_STEP))


def _scaled(crop: Tensor, scale: float) -> Tensor:
    side = scaled_side(crop.shape[-1], scale)
    return crop if side == crop.shape[-1] else F.interpolate(crop, side, mode="bilinear", antialias=True)
