"""Stage 1 under Lightning: the whole radiograph to an age, without sex."""

from typing import Any

from baa.data.batch import Batch
from baa.modules.base import AgeRegressionModule
from baa.nets.heads import AgeHead, AgePrediction
from baa.nets.locator import Locator
from baa.nets.two_stage import scaled_side


class LocatorModule(AgeRegressionModule):
    """Train a locator.

    Args:
        locator: the network.
        optimization: arguments of `AgeRegressionModule`.
    """

    def __init__(self, locator: Locator, **optimization: Any) -> None:
        super().__init__(**optimization)
        self.locator = locator

    @property
    def head(self) -> AgeHead:
        return self.locator.head.age

    def predict(self, batch: Batch) -> AgePrediction:
        return self.locator(batch.view.render(scaled_side(self.locator.px, self.scale)))
