"""Stage 3: locator and estimator learn together, the crop between them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.profiler import record_function

from baa.data.batch import Batch
from baa.data.datamodules import PHASE
from baa.modules.base import AgeModule
from baa.modules.estimator import EstimatorModule
from baa.nets.cropper import RegionCropper, Regions
from baa.nets.heads import AgeHead, AgePrediction, full_precision
from baa.nets.locator import Locator


class JointModule(AgeModule):
    """Both networks on whole radiographs: loss = estimator's + `locator_weight` * locator's.

    With boxes by `moments` the estimator's loss also reaches the locator, through crop, box and heat map. The locator
    stays in eval mode: its dropout would move the boxes, and its batch norms would learn from blacked-out views.

    Args:
        locator: arguments of `Locator`.
        crops: arguments of `RegionCropper`, `graph` among them.
        estimator: arguments of `EstimatorModule`.
        optimisation: arguments of `AgeModule`; `lr` is the estimator's.
        locator_lr: the locator's learning rate.
        locator_weight, locator_loss: of the locator's own loss.
        frozen_statistics: whether the estimator's batch norms keep the statistics they start with.
        frozen_groups: of layers of the (locator's, estimator's) backbones that do not learn, counted from the image.
    """

    def __init__(
        self,
        locator: dict[str, Any],
        crops: dict[str, Any],
        estimator: dict[str, Any],
        optimisation: dict[str, Any],
        *,
        locator_lr: float,
        locator_weight: float,
        locator_loss: str,
        frozen_statistics: bool = True,
        frozen_groups: Sequence[int] = (0, 0),
    ) -> None:
        super().__init__(**optimisation)
        self.save_hyperparameters(logger=False)  # a logger has the run's settings, under the same names
        self.cropper = RegionCropper(Locator(**locator), **crops)
        self.estimator = EstimatorModule(**estimator)
        self.estimator.loss = self.loss
        self.locator_lr = locator_lr
        self.locator_weight = locator_weight
        self.locator_loss = locator_loss
        self.frozen_statistics = frozen_statistics
        self._freeze(frozen_groups)
        self.train()  # Lightning leaves modes as it finds them

    def _freeze(self, groups: Sequence[int]) -> None:
        """Whatever no gradient reaches is frozen for good: DDP would wait for it."""
        locator = self.cropper.locator
        if not self.locator_weight:
            locator.head.requires_grad_(False)
            if self.cropper.rule == "peak":
                locator.requires_grad_(False)
            elif self.cropper.graph == "weights":  # a linear answer's slope does not know its bias, an expectation's does
                linear = locator.head.age.kind == "regression" or self.cropper.reading == "class"
                last = locator.head.age.layers[-1]
                (last.weight if linear else last).requires_grad_(True)
        if groups[0]:
            locator.backbone.freeze_first(groups[0])
        if groups[1]:
            for name in self.estimator.net.streams:
                self.estimator.net.stream(name).backbone.freeze_first(groups[1])

    @property
    def net(self) -> nn.Module:  # type: ignore[override]
        """What is compiled."""
        return self.estimator.net

    @property
    def head(self) -> AgeHead:
        return self.estimator.head

    def train(self, mode: bool = True) -> "JointModule":
        """The estimator's batch norms follow `frozen_statistics`, and those of frozen layers never learn."""
        super().train(mode)
        for module in self.estimator.modules():
            if isinstance(module, _BatchNorm):
                frozen = self.frozen_statistics or (module.affine and not module.weight.requires_grad)
                module.train(mode and not frozen)
        return self

    def look(self, batch: Batch) -> tuple[Batch, AgePrediction]:
        """A batch with its regions, and the age that the locator reads from the whole hand."""
        device = batch.film.source.device.type
        half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
        self.cropper.half_precision = half
        with torch.autocast(device, enabled=False):  # geometry needs all its digits
            view = batch.film.view(self.cropper.locator.px)
            features = full_precision(self.cropper.features(view))
            boxes, heat, fallback = self.cropper.cascade(view, features)
            regions = Regions(boxes, heat, fallback, self.cropper.cut(batch.film, boxes))
            return batch._replace(regions=regions), self.cropper.locator.head(features)

    def months(self, batch: Batch) -> Tensor:
        return self.estimator.months(batch if batch.regions is not None else self.look(batch)[0])

    def objective(self, batch: Batch) -> tuple[AgePrediction, Tensor]:
        with record_function(f"{PHASE}crops"):
            batch, whole = self.look(batch)
        prediction, loss = self.estimator.objective(batch)
        if self.locator_weight:
            locator_head = self.cropper.locator.head.age
            loss = loss + self.locator_weight * locator_head.loss(whole, batch.months, self.locator_loss)
        return prediction, loss

    def learnt_weights(self) -> dict[str, Tensor]:
        return self.estimator.learnt_weights()

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        return [(self.estimator, self.optimisation["lr"]), (self.cropper.locator, self.locator_lr)]

    def reach(self) -> str:
        """What the locator learns from, in a line for the reader."""
        own = f"its own loss, times {self.locator_weight}" if self.locator_weight else ""
        crop = "the estimator's, through the crop" if self.cropper.rule == "moments" else ""
        if self.cropper.rule == "peak" and not own:
            return "boxes of crops.rule=peak pass no gradient on and joint.locator_weight is 0: the locator stays as it is"
        told = f"the locator learns from {' and '.join(filter(None, (own, crop)))}"
        return told if crop else f"{told}; boxes of crops.rule=peak pass nothing on to it"
