"""Stage 1 under Lightning: the whole radiograph to an age."""

from typing import Any

from baa.data.batch import Batch
from baa.modules.base import AgeModule
from baa.nets.heads import AgeHead, AgePrediction
from baa.nets.locator import Locator


class LocatorModule(AgeModule):
    """Stage 1: the age from the whole radiograph, without the sex.

    Args:
        net: arguments of `Locator`.
        optimisation: arguments of `AgeModule`.
    """

    net: Locator

    def __init__(self, net: dict[str, Any], optimisation: dict[str, Any]) -> None:
        super().__init__(**optimisation)
        self.save_hyperparameters()
        self.net = Locator(**net)

    @property
    def head(self) -> AgeHead:
        return self.net.head.age

    def predict(self, batch: Batch) -> AgePrediction:
        return self.net(batch.film.view(self.side(self.net.px)))
