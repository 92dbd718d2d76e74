"""Stage 1 under Lightning: the whole radiograph to an age, without sex."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from baa.data.batch import Batch
from baa.modules.base import AgeRegressionModule
from baa.nets.backbone import GrayImage
from baa.nets.heads import AgeHead, AgePrediction
from baa.nets.locator import Locator
from baa.nets.two_stage import scaled_side

PATCHES = 6
"""Patches per side of an image of which hide-and-seek hides some."""


class LocatorModule(AgeRegressionModule):
    """Train a locator.

    Args:
        locator: the network.
        hide_and_seek: share of the patches that are hidden in training, drawn for each image. The network then learns to use
            every part of the hand, not its most telling one alone (Singh and Lee, ICCV 2017, https://arxiv.org/abs/1704.04232).
        optimization: arguments of `AgeRegressionModule`.
    """

    def __init__(self, locator: Locator, *, hide_and_seek: float = 0.0, **optimization: Any) -> None:
        super().__init__(**optimization)
        self.locator = locator
        self.hide_and_seek = hide_and_seek

    @property
    def head(self) -> AgeHead:
        return self.locator.head.age

    def penalty(self, prediction: AgePrediction, months: Tensor) -> Tensor | float:
        return auxiliary_penalty(self.locator, prediction, months, self.loss)

    def predict(self, batch: Batch) -> AgePrediction:
        image = batch.view.render(scaled_side(self.locator.px, self.scale))
        if self.training and self.hide_and_seek:
            image = hide_patches(image, self.hide_and_seek)
        return self.locator(image)


def auxiliary_penalty(locator: Locator, prediction: AgePrediction, months: Tensor, loss: str) -> Tensor | float:
    """Return the loss of the locator's auxiliary head alone; 0 without one."""
    if locator.auxiliary is None:
        return 0.0
    return locator.auxiliary.age.loss(prediction.alone[1], months, loss)


def hide_patches(image: GrayImage, share: float) -> GrayImage:
    """Black out a share of `PATCHES` by `PATCHES` patches, drawn for each image."""
    hidden = torch.rand(len(image), 1, PATCHES, PATCHES, device=image.device) < share
    return image.masked_fill(F.interpolate(hidden.float(), size=image.shape[-2:], mode="nearest") > 0, 0.0)
