"""Stage 2 under Lightning: crops and sex to an age."""

from typing import Any

from torch import Tensor

from baa.data.batch import Batch
from baa.modules.base import AgeRegressionModule
from baa.nets.estimator import Estimator
from baa.nets.heads import AgeHead, AgePrediction
from baa.nets.two_stage import BoneAgeModel


class EstimatorModule(AgeRegressionModule):
    """Train the estimator of a model. `CropDataModule` cuts its crops, so the model has no cropper here.

    Args:
        model: with an estimator.
        auxiliary: weight of the loss of each stream's own age.
        optimization: arguments of `AgeRegressionModule`.
    """

    def __init__(self, model: BoneAgeModel, *, auxiliary: float = 0.0, **optimization: Any) -> None:
        super().__init__(**optimization)
        self.model = model
        self.auxiliary = auxiliary

    @property
    def estimator(self) -> Estimator:
        """The estimator of the model."""
        assert self.model.estimator is not None
        return self.model.estimator

    @property
    def head(self) -> AgeHead:
        return self.estimator.head

    def learned_weights(self) -> dict[str, Tensor]:
        return self.estimator.fusion.learned_weights()

    def predict(self, batch: Batch) -> AgePrediction:
        return self.model(batch.view, batch.sex, batch.regions, self.scale)

    def penalty(self, prediction: AgePrediction, months: Tensor) -> Tensor | float:
        return estimator_penalty(self.estimator, prediction, months, loss=self.loss, auxiliary=self.auxiliary)


def estimator_penalty(
    estimator: Estimator, prediction: AgePrediction, months: Tensor, *, loss: str, auxiliary: float
) -> Tensor | float:
    """Return what an estimator adds to its loss: the fusion's penalty, and the weighted loss of each stream's own age."""
    penalty = estimator.fusion.penalty()
    for alone in prediction.alone:
        penalty = penalty + auxiliary * estimator.head.loss(alone, months, loss)
    return penalty
