"""Age metrics, in months: error, subgroups, bootstrap intervals.

Metrics end in a flat dict `{"test/mae": ...}`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import bootstrap
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score

from baa.data.cases import Case
from baa.metrics.localization import localization
from baa.metrics.predictions import Predictions
from baa.patient import Sex

RESAMPLES = 1000
RESAMPLES_PER_BATCH = 10
CONFIDENCE = 0.95
REPORTED_BANDS_MONTHS = (0, 60, 120, 180, 241)


class WithinMonths(Metric):
    """The share of ages whose error is at most `months`.

    Shapes:
        predicted [N], true [N] -> share []

    Example:
        >>> WithinMonths(6)(torch.tensor([100.0, 110.0]), torch.tensor([103.0, 118.0]))
        tensor(0.5000)
    """

    higher_is_better = True
    full_state_update = False
    near: Tensor
    total: Tensor

    def __init__(self, months: float) -> None:
        super().__init__()
        self.months = months
        self.add_state("near", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Float[Tensor, " case"], true: Float[Tensor, " case"]) -> None:
        self.near += ((predicted - true).abs() <= self.months).sum()
        self.total += len(true)

    def compute(self) -> Tensor:
        return self.near / self.total


def age_metrics(prefix: str) -> MetricCollection:
    """Make the metrics MAE (eq. 5 of Li et al. 2023), RMSE, R2 and shares within 6 and 12 months, for all processes together.

    Shapes:
        predicted [N], true [N] -> scalars [] by name

    Example:
        >>> metrics = age_metrics("test/")(torch.tensor([100.0, 110.0]), torch.tensor([103.0, 118.0]))
        >>> float(metrics["test/mae"])
        5.5
    """
    return MetricCollection(
        {
            "mae": MeanAbsoluteError(),
            "rmse": MeanSquaredError(squared=False),
            "r2": R2Score(),
            "within_6": WithinMonths(6),
            "within_12": WithinMonths(12),
        },
        prefix=prefix,
        compute_groups=False,  # torchmetrics would merge the two shares for good if they agree in the first batch
    )


def summarize(
    cases: Sequence[Case], predictions: Predictions, split: str, regions: Sequence[str] = ()
) -> dict[str, float | list[float]]:
    """Compute all metrics of a split, with subgroups by sex and age and bootstrap 95 % intervals.

    Args:
        cases: N cases. Those without an age are left out.
        predictions: their predictions, of N.
        split: prefix of the names.
        regions: names of the R regions in `predictions.boxes`; not needed for predictions without boxes.

    Returns:
        `SPLIT/METRIC` and `SPLIT/GROUP/METRIC` to a number, or to an interval [low, high].

    Example:
        >>> from baa.data.sources.phantom import phantom_cases
        >>> cases = phantom_cases(4, seed=0)
        >>> months = torch.tensor([case.months + 3.0 for case in cases])
        >>> metrics = summarize(cases, Predictions(months, torch.empty(4, 0, 4), torch.full((4, 2), torch.nan)), "test")
        >>> metrics["test/mae"], metrics["test/bias"]
        (3.0, 3.0)
    """
    known = torch.tensor([case.months is not None for case in cases])
    true = torch.tensor([case.months if case.months is not None else 0.0 for case in cases])
    result: dict[str, float | list[float]] = {}
    groups = {"": known}
    for sex in Sex:
        groups[f"{sex.name.lower()}/"] = known & torch.tensor([case.sex == sex for case in cases])
    for low, high in itertools.pairwise(REPORTED_BANDS_MONTHS):
        groups[f"{low}_to_{high - 1}_months/"] = known & (true >= low) & (true < high)
    for group, chosen in groups.items():
        if chosen.sum() >= 2:
            result |= _age_summary(predictions.months[chosen], true[chosen], f"{split}/{group}")
    if predictions.boxes is not None:
        result |= localization(predictions, regions, split)
    return result


def by_group(metrics: Mapping[str, Any], split: str) -> dict[str, dict[str, Any]]:
    """Group the metrics of a split by subgroup.

    Example:
        >>> by_group({"test/mae": 5.4, "test/female/mae": 5.6, "val/mae": 6.0}, "test")
        {'all': {'mae': 5.4}, 'female': {'mae': 5.6}}
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, value in metrics.items():
        if name.startswith(f"{split}/"):
            group, _, metric = name.removeprefix(f"{split}/").rpartition("/")
            groups.setdefault(group.replace("_", " ") or "all", {})[metric] = value
    return groups


def _age_summary(predicted: Tensor, true: Tensor, prefix: str) -> dict[str, float | list[float]]:
    summary: dict[str, float | list[float]] = {f"{prefix}cases": len(true)}
    values = age_metrics(prefix)(predicted, true)
    summary |= {name: float(value) for name, value in values.items()}
    summary[f"{prefix}bias"] = float((predicted - true).mean())
    summary[f"{prefix}mae_ci"] = bootstrap_interval((predicted - true).abs())
    return summary


def bootstrap_interval(values: Float[Tensor, " case"]) -> list[float]:
    """Compute the bootstrap 95 % interval of the mean over cases: [low, high].

    The seed is fixed: equal cases give equal intervals. Percentile method of Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, by SciPy.

    Args:
        values: [N].

    Example:
        >>> bootstrap_interval(torch.full((10,), 5.0))
        [5.0, 5.0]
    """
    drawn = bootstrap(
        (values.double().numpy(),),
        np.mean,
        n_resamples=RESAMPLES,
        batch=RESAMPLES_PER_BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=0,
    )
    return [float(edge) for edge in drawn.confidence_interval]
