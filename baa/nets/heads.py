"""From a feature vector to an age in months, and the losses of an age.

Ages are standardized here and nowhere else: a head returns months, a loss works in standard deviations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from baa.patient import MAX_MONTHS

MONTHS_PER_BIN = 6.0
LABEL_BLUR_MONTHS = 6.0
REGRESSION_LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}

Months = Float[Tensor, " batch"]


def full_precision(x: Tensor) -> Tensor:
    """Convert half precision to float32, any shape [...]; doubles stay doubles."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def clamp_to_age_range(months: Months) -> Months:
    """Clamp ages [B] to 0 to 240 months. A regression may return others."""
    return months.clamp(min=0.0).clamp(max=MAX_MONTHS)


class AgePrediction(NamedTuple):
    """Ages, and what they were computed from.

    Args:
        months: ages [B].
        logits: of the bins of a distribution head [B, K]; None for a regression.
        alone: the ages [B] of each stream or head alone.
    """

    months: Tensor
    logits: Tensor | None = None
    alone: "Sequence[AgePrediction]" = ()


class AgeHead(nn.Module):
    """Feature vector to age.

    `regression` returns one number. `distribution` returns a softmax over ages 0, 6, ... 240 months, whose expectation is the
    age. Its bins are classes for Grad-CAM, which a regression does not have.

    Args:
        features: width of the feature vector.
        kind: `regression` or `distribution`.
        mean_months, std_months: of the training ages.
        hidden: width of a hidden layer, 0 for none.
        dropout: share of the features dropped in training.

    Shapes:
        features [B, features] -> AgePrediction(months [B], logits [B, K] or None)
    """

    bins: Tensor
    mean_months: Tensor
    std_months: Tensor

    def __init__(
        self,
        features: int,
        *,
        kind: str = "regression",
        mean_months: float = 127.0,
        std_months: float = 41.0,
        hidden: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        bins = torch.arange(0.0, MAX_MONTHS + 1, MONTHS_PER_BIN)
        self.kind = kind
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("mean_months", torch.tensor(mean_months))
        self.register_buffer("std_months", torch.tensor(std_months))
        inner = [nn.Linear(features, hidden), nn.ReLU()] if hidden else []
        self.layers = nn.Sequential(
            *inner, nn.Dropout(dropout), nn.Linear(hidden or features, len(bins) if kind == "distribution" else 1)
        )

    def forward(self, features: Float[Tensor, "batch feature"]) -> AgePrediction:
        with torch.autocast(features.device.type, enabled=False):  # bf16 has whole months above 128
            answer = self.layers(full_precision(features))
        if self.kind == "regression":
            return AgePrediction(answer[:, 0] * self.std_months + self.mean_months)
        return AgePrediction((answer.softmax(dim=1) * self.bins).sum(dim=1), answer)

    def loss(self, prediction: AgePrediction, months: Months, loss: str) -> Float[Tensor, ""]:
        """Compute the loss of a batch, eq. 4 of Li et al. 2023 for `mse`, in standard deviations of the training ages.

        A distribution head adds the cross entropy to the true age blurred by a Gaussian of 6 months, close to the spread
        between readers.

        Args:
            prediction: of `forward`, for B images.
            months: the true ages [B].
            loss: `mse`, `l1` or `smooth_l1`.

        Returns:
            The mean over the batch, a scalar [].
        """
        error = REGRESSION_LOSSES[loss](prediction.months / self.std_months, months / self.std_months)
        if prediction.logits is None:
            return error
        distance = (months[:, None] - self.bins) / LABEL_BLUR_MONTHS
        return error + F.cross_entropy(prediction.logits, (-distance.square() / 2).softmax(dim=1))
