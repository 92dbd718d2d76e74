"""Stage 2 under Lightning: crops and sex to an age."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from baa.data.batch import Batch
from baa.modules.base import AgeModule
from baa.nets.cropper import REGIONS
from baa.nets.estimator import Estimator
from baa.nets.heads import AgeHead, AgePrediction, possible


class EstimatorModule(AgeModule):
    """Stage 2: the age from crops (or the whole radiograph) and the sex.

    Args:
        net: arguments of `Estimator`.
        optimisation: arguments of `AgeModule`.
        whole_px: side of the `whole` stream's view.
        sparsity: weight of the penalty that empties channels, for the `channel` exchange.
        auxiliary: weight of the loss of each stream judged alone, if the net has them answer.
        flip_average: evaluate on the mirror image too, and average.
    """

    net: Estimator

    def __init__(
        self,
        net: dict[str, Any],
        optimisation: dict[str, Any],
        *,
        whole_px: int = 300,
        sparsity: float = 0.0,
        auxiliary: float = 0.0,
        flip_average: bool = True,
    ) -> None:
        super().__init__(**optimisation)
        self.save_hyperparameters()
        self.net = Estimator(**net)
        self.whole_px = whole_px
        self.sparsity = sparsity
        self.auxiliary = auxiliary
        self.flip_average = flip_average

    @property
    def head(self) -> AgeHead:
        return self.net.head

    def learnt_weights(self) -> dict[str, Tensor]:
        return self.net.learnt_weights()

    def crops(self, batch: Batch) -> dict[str, Tensor]:
        """What each stream of the net looks at."""
        crops = dict(zip(REGIONS, map(self._shrunk, batch.regions.crops), strict=True)) if batch.regions is not None else {}
        if "whole" in self.net.streams:
            crops["whole"] = batch.film.view(self.side(self.whole_px))
        return crops

    def _shrunk(self, crop: Tensor) -> Tensor:
        side = self.side(crop.shape[-1])
        return crop if side == crop.shape[-1] else F.interpolate(crop, side, mode="bilinear", antialias=True)

    def predict(self, batch: Batch) -> AgePrediction:
        return self.net(self.crops(batch), batch.sex)

    def months(self, batch: Batch) -> Tensor:
        crops = self.crops(batch)
        months = self.net(crops, batch.sex).months
        if self.flip_average:
            mirrored = {name: crop.flip(-1) for name, crop in crops.items()}
            months = (months + self.net(mirrored, batch.sex).months) / 2
        return possible(months)

    def penalty(self, prediction: AgePrediction, months: Tensor) -> Tensor | float:
        penalty: Tensor | float = 0.0
        if self.net.exchange.mode == "channel":
            penalty = self.sparsity * self.net.exchange.sparsity()
        for answer in prediction.alone:
            penalty = penalty + self.auxiliary * self.head.loss(answer, months, self.loss)
        return penalty
