"""From a radiograph and a sex to everything that is answered, in one graph that needs neither autograd nor Lightning."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from baa.assembly.modules import crop_arguments
from baa.checkpoints.trained_model import Restored
from baa.config.load import load
from baa.errors import InputError
from baa.metrics.conformal import CALIBRATED_BANDS_MONTHS, half_width
from baa.modules.estimator import EstimatorModule
from baa.modules.joint import JointModule
from baa.nets.backbone import GreyImage
from baa.nets.cropper import REGIONS, RegionCropper
from baa.nets.heads import possible
from baa.nets.view import Film
from baa.patient import Sex


class Answer(NamedTuple):
    """months, lower and upper [B], the latter NaN where too few cases say how far off; boxes [B, 2, 4] as shares of the square,
    carpal first; heat [B, 2, h, w] of both looks, not negative.
    """

    months: Tensor
    lower: Tensor
    upper: Tensor
    boxes: Tensor
    heat: Tensor


class WholePath(nn.Module):
    """The two looks, the crops, the estimator on them and on their mirror images, and the interval.

    Args:
        model: an estimator that reads crops, or one trained jointly with its locator.
        coverage: of the intervals.

    Shapes:
        source [B, 1, S, S] in [0, 1], square and of the model's `data.source_px`; sex [B] of `Sex` -> the fields of an
        Answer of B, as a plain tuple, which a graph can be loaded with where baa is not

    Raises:
        InputError: a model of another kind, or one whose heat maps have no closed form.
    """

    half_widths: Tensor
    band_ends: Tensor

    def __init__(self, model: Restored, coverage: float) -> None:
        super().__init__()
        module = model.module.estimator if isinstance(model.module, JointModule) else model.module
        if not isinstance(module, EstimatorModule) or model.locator is None:
            raise InputError(
                "only an estimator that reads crops has a whole path; this model is a locator or reads the whole hand"
            )
        config = load(None, base=model.settings)
        self.crop = RegionCropper(model.locator, **crop_arguments(config) | {"half_precision": False}, closed_form=True)
        self.estimator = module.net
        self.flip_average, self.whole_px = module.flip_average, module.whole_px
        middles = [(low + end) / 2 for low, end in CALIBRATED_BANDS_MONTHS.values()]
        widths = [[half_width(model.calibration, sex, months, coverage) for months in middles] for sex in Sex]
        known = [[torch.nan if width is None else width for width in row] for row in widths]
        self.register_buffer("half_widths", torch.tensor(known), persistent=False)
        self.register_buffer(
            "band_ends", torch.tensor([float(end) for _, end in CALIBRATED_BANDS_MONTHS.values()]), persistent=False
        )
        self.requires_grad_(False).eval()

    def forward(self, source: GreyImage, sex: Int[Tensor, " batch"]) -> tuple[Tensor, ...]:
        film = Film.plain(source)
        boxes, heat, _ = self.crop.locate(film)
        crops = dict(zip(REGIONS, self.crop.cut(film, boxes), strict=True))
        if "whole" in self.estimator.streams:
            crops["whole"] = film.view(self.whole_px)
        months = self.estimator(crops, sex).months
        if self.flip_average:
            mirrored = {name: crop.flip(-1) for name, crop in crops.items()}
            months = (months + self.estimator(mirrored, sex).months) / 2
        months = possible(months)
        half = self._half_width(months, sex)
        lower, upper = (possible(months + reach) for reach in (-half, half))
        return tuple(Answer(months, lower, upper, boxes, heat))

    def _half_width(self, months: Float[Tensor, " batch"], sex: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        band = (months[:, None] >= self.band_ends[None, :-1]).sum(dim=1)
        return self.half_widths[sex, band]
