"""The mean of an epoch's training values, which no step waits for."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


class EpochMean(Metric):
    """The mean over all cases of an epoch, of all processes together. A value that is not finite makes it not finite.

    torchmetrics' `MeanMetric` looks for NaN in each update, for which the host waits for a GPU.

    Shapes:
        the mean [] of a batch, and its number of cases -> the mean [] of the epoch

    Example:
        >>> mean = EpochMean()
        >>> mean.update(torch.tensor(1.0), 3)
        >>> mean.update(torch.tensor(5.0), 1)
        >>> mean.compute()
        tensor(2.)
    """

    full_state_update = False
    total: Tensor
    cases: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("cases", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, mean: Float[Tensor, ""], cases: int) -> None:
        self.total.add_(mean, alpha=cases)
        self.cases += cases

    def compute(self) -> Tensor:
        return self.total / self.cases
