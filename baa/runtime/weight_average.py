"""The exponential moving average of a run's weights, under Lightning's callback."""

from itertools import chain

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class ExponentialAverage(WeightAveraging):
    """Average weights and buffers after each optimizer step; validate, test and keep the averages.

    Args:
        device: where the averages lie.
        decay: share of the average that remains in each step.
    """

    def __init__(self, device: torch.device, decay: float) -> None:
        super().__init__(device)
        self.decay = decay

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            self._average_model = AverageOfSteps(pl_module, self._device, decay=self.decay)


class AverageOfSteps(AveragedModel):
    """torch's `AveragedModel` in one operation for all floating-point tensors, and one for the counters, which it copies.

    Its own update asks the device for `n_averaged` in each step, for which the host waits, and averages counters one by one.

    Args:
        model: what is averaged.
        device: where the averages lie.
        decay: share of the average that remains in each step.
    """

    def __init__(self, model: nn.Module, device: torch.device | int | None, *, decay: float) -> None:
        super().__init__(model, device, use_buffers=True)
        self.decay = decay
        self.begun = False

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        self.begun = self.begun or bool(self.n_averaged)  # of a resumed run; asked once
        averaged = [pair for pair in pairs if self.begun and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (self.begun and pair[0].is_floating_point())]
        if averaged:
            torch._foreach_lerp_([own for own, _ in averaged], [value for _, value in averaged], 1 - self.decay)
        if copied:
            torch._foreach_copy_([own for own, _ in copied], [value for _, value in copied])
        self.begun = True
        self.n_averaged += 1


def _tensors(module: nn.Module) -> chain[Tensor]:
    return chain(module.parameters(), module.buffers())
