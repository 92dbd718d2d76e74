"""Stage 3 under Lightning: locator and estimator are trained together, with the crop between them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from baa.data.batch import Batch
from baa.modules.base import AgeRegressionModule
from baa.modules.estimator import estimator_penalty
from baa.modules.locator import auxiliary_penalty
from baa.nets.cropper import RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.heads import AgeHead, AgePrediction, full_precision
from baa.nets.two_stage import BoneAgeModel


class JointModule(AgeRegressionModule):
    """Train both networks of a model: loss = estimator's + `locator_weight` * locator's.

    With boxes by `moments` the estimator's loss also reaches the locator, through crop, box and heat map. The locator stays in
    eval mode: dropout would move the boxes, and its batch norms would learn from images with hidden regions.

    Args:
        model: with cropper and estimator. The cropper's `differentiable` states how far a loss reaches.
        locator_lr: learning rate of the locator; `lr` is the estimator's.
        locator_weight, locator_loss: of the locator's own loss.
        auxiliary: weight of the loss of each stream's own age.
        frozen_statistics: whether the estimator's batch norms keep their statistics.
        locator_frozen, estimator_frozen: groups of backbone layers that are not trained, counted from the image.
        optimization: arguments of `AgeRegressionModule`.
    """

    def __init__(
        self,
        model: BoneAgeModel,
        *,
        locator_lr: float,
        locator_weight: float,
        locator_loss: str,
        auxiliary: float = 0.0,
        frozen_statistics: bool = True,
        locator_frozen: int = 0,
        estimator_frozen: int = 0,
        **optimization: Any,
    ) -> None:
        super().__init__(**optimization)
        self.model = model
        self.locator_lr = locator_lr
        self.locator_weight = locator_weight
        self.locator_loss = locator_loss
        self.auxiliary = auxiliary
        self.frozen_statistics = frozen_statistics
        self._freeze(locator_frozen, estimator_frozen)
        self.train()  # Lightning keeps the modes that it finds

    @property
    def cropper(self) -> RegionCropper:
        """The cropper of the model."""
        assert self.model.cropper is not None
        return self.model.cropper

    @property
    def estimator(self) -> Estimator:
        """The estimator of the model."""
        assert self.model.estimator is not None
        return self.model.estimator

    @property
    def head(self) -> AgeHead:
        return self.estimator.head

    def _freeze(self, locator_groups: int, estimator_groups: int) -> None:
        """Freeze whatever no gradient reaches: DDP would wait for it."""
        locator = self.cropper.locator
        if not self.locator_weight:
            locator.head.requires_grad_(False)
            if locator.auxiliary is not None:
                locator.auxiliary.requires_grad_(False)
            if self.cropper.box_method == "peak":
                locator.requires_grad_(False)
            elif self.cropper.differentiable == "weights":  # the slope of a linear answer does not depend on its bias
                linear = locator.head.age.kind == "regression" or self.cropper.attribution.mode == "class"
                last = locator.head.age.layers[-1]
                (last.weight if linear else last).requires_grad_(True)
        locator.backbone.freeze_first(locator_groups)
        for name in self.estimator.streams:
            self.estimator.stream(name).backbone.freeze_first(estimator_groups)

    def train(self, mode: bool = True) -> "JointModule":
        """Keep the statistics of the estimator's batch norms if they are frozen, and always those of frozen layers."""
        super().train(mode)
        for module in self.estimator.modules():
            if isinstance(module, _BatchNorm):
                frozen = self.frozen_statistics or (module.affine and not module.weight.requires_grad)
                module.train(mode and not frozen)
        return self

    def _localize(self, batch: Batch) -> tuple[Batch, AgePrediction]:
        """Add the regions to a batch; also return the locator's own ages, with one head from the same features."""
        device = batch.view.source.device.type
        half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        self.cropper.half_precision = half
        with torch.autocast(device, enabled=False):  # geometry needs all its digits
            image = batch.view.render(self.cropper.locator.px)
            features = full_precision(self.cropper.features(image))
            regions = self.cropper.localize(image, features)
            regions = regions._replace(crops=self.cropper.cut(batch.view, regions.boxes))
            locator = self.cropper.locator
            return batch._replace(regions=regions), locator.head(features) if locator.auxiliary is None else locator(image)

    def predict(self, batch: Batch) -> AgePrediction:
        return self._read(self._localize(batch)[0])

    def _read(self, batch: Batch) -> AgePrediction:
        return self.model(batch.view, batch.sex, batch.regions, self.scale)

    def objective(self, batch: Batch) -> tuple[AgePrediction, Tensor]:
        batch, whole = self._localize(batch)
        prediction = self._read(batch)
        loss = self.head.loss(prediction, batch.months, self.loss) + estimator_penalty(
            self.estimator, prediction, batch.months, loss=self.loss, auxiliary=self.auxiliary
        )
        if self.locator_weight:
            locator = self.cropper.locator
            own = locator.head.age.loss(whole, batch.months, self.locator_loss)
            own = own + auxiliary_penalty(locator, whole, batch.months, self.locator_loss)
            loss = loss + self.locator_weight * own
        return prediction, loss

    def learned_weights(self) -> dict[str, Tensor]:
        return self.estimator.fusion.learned_weights()

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        return [(self.estimator, self.lr), (self.cropper.locator, self.locator_lr)]

    def describe_gradients(self) -> str:
        """Describe in one line what trains the locator."""
        own = f"its own loss, times {self.locator_weight}" if self.locator_weight else ""
        crop = "the estimator's, through the crop" if self.cropper.box_method == "moments" else ""
        if self.cropper.box_method == "peak" and not own:
            return "boxes of crops.box_method=peak have no gradient and joint.locator_weight is 0: the locator is not trained"
        line = f"the locator is trained by {' and '.join(filter(None, (own, crop)))}"
        return line if crop else f"{line}; boxes of crops.box_method=peak have no gradient"
