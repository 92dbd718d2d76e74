"""How far the ages are off, and how well the locator looked.

Every metric of ages is in months. Metrics end in a flat dict `{"test/mae": ...}`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import bootstrap
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric, MetricCollection, R2Score
from torchmetrics.utilities import dim_zero_cat
from torchvision.ops import box_area

from baa.data.cases import Case
from baa.nets.cropper import CARPAL, REGIONS
from baa.patient import Sex

BOOTSTRAPS = 1000
RESAMPLED_AT_ONCE = 10
CONFIDENCE = 0.95
REPORTED_BANDS_MONTHS = (0, 60, 120, 180, 241)


class WithinMonths(Metric):
    """Share of ages that are off by at most so many months."""

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
    """MAE (eq. 5), RMSE, R2 and the shares within 6 and 12 months, synchronised over processes."""
    return MetricCollection(
        {
            "mae": MeanAbsoluteError(),
            "rmse": MeanSquaredError(squared=False),
            "r2": R2Score(),
            "within_6": WithinMonths(6),
            "within_12": WithinMonths(12),
        },
        prefix=prefix,
        compute_groups=False,  # it would make one of the two shares for good if they agree in the first batch
    )


class Predictions(NamedTuple):
    """One row a case, in the order of the cases.

    months [N]; of a run with crops also boxes [N, 2, 4], peaks [N, 2, 2] (x, y) and fallback [N, 2], all as shares of the
    square, carpal first; truth [N, 2, 4] and capitate [N, 2], NaN where unknown.
    """

    months: Tensor
    truth: Tensor
    capitate: Tensor
    boxes: Tensor | None = None
    peaks: Tensor | None = None
    fallback: Tensor | None = None


class Gathered(Metric):
    """The predictions of every case, gathered over processes. (torchmetrics' `CatMetric` flattens and drops NaN.)"""

    full_state_update = False
    case: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for field in ("case", *Predictions._fields):
            self.add_state(field, [], dist_reduce_fx="cat")

    def update(self, case: Int[Tensor, " batch"], predictions: Predictions) -> None:
        """Keep a batch; `case` is each row's place among the cases."""
        for field, values in {"case": case, **predictions._asdict()}.items():
            if values is not None:
                getattr(self, field).append(values)

    def compute(self) -> Predictions:
        order = dim_zero_cat(self.case).argsort().cpu()
        kept = {field: getattr(self, field) for field in Predictions._fields}
        return Predictions(**{field: dim_zero_cat(values).cpu()[order] for field, values in kept.items() if len(values)})


def summarise(cases: Sequence[Case], predictions: Predictions, split: str) -> dict[str, float | list[float]]:
    """All metrics of a split, bootstrap 95 % intervals and subgroups included; cases without an age do not count.

    Args:
        cases: N cases.
        predictions: their rows.
        split: the names' prefix.
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
        result |= localisation(predictions, split)
    return result


def by_group(metrics: Mapping[str, Any], split: str) -> dict[str, dict[str, Any]]:
    """The metrics of each group of a split's cases: {"all": {"mae": ...}, "female": ..., "0 to 59 months": ...}."""
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
    summary[f"{prefix}mae_ci"] = interval((predicted - true).abs())
    return summary


def interval(values: Float[Tensor, " case"]) -> list[float]:
    """The bootstrap 95 % interval of the mean over cases: [low, high]. The same cases give the same interval."""
    drawn = bootstrap(
        (values.double().numpy(),),
        np.mean,
        n_resamples=BOOTSTRAPS,
        batch=RESAMPLED_AT_ONCE,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=0,
    )
    return [float(edge) for edge in drawn.confidence_interval]


def localisation(predictions: Predictions, split: str) -> dict[str, float | list[float]]:
    """Where the locator looked against where the bones are.

    `pointing`: share of peaks inside the true box. `iou`, `coverage`: of the cut box with the true box, and the share of the
    true box that it holds. `capitate_distance`: from the carpal box's centre to the capitate, as a share of the radiograph's
    longer side; `capitate_distance_of_hand`: as a share of the longer side of the true hand, carpals to finger tips.
    """
    assert predictions.boxes is not None
    assert predictions.peaks is not None
    assert predictions.fallback is not None
    result: dict[str, float | list[float]] = {}
    for region, name in enumerate(REGIONS):
        result[f"{split}/{name}_fallback"] = float(predictions.fallback[:, region].float().mean())
        marked = predictions.truth[:, region].isfinite().all(dim=1)
        if not marked.any():
            continue
        true = predictions.truth[marked, region]
        cut = predictions.boxes[marked, region]
        result[f"{split}/{name}_marked"] = int(marked.sum())
        result[f"{split}/{name}_pointing"] = float(inside(predictions.peaks[marked, region], true).float().mean())
        shared = intersection(cut, true)
        result[f"{split}/{name}_iou"] = float((shared / (box_area(cut) + box_area(true) - shared)).mean())
        result[f"{split}/{name}_coverage"] = float((shared / box_area(true)).mean())
    marked = predictions.capitate.isfinite().all(dim=1)
    if marked.any():
        box, capitate = predictions.boxes[marked, CARPAL], predictions.capitate[marked]
        distance = ((box[:, :2] + box[:, 2:]) / 2 - capitate).norm(dim=1)
        result[f"{split}/capitate_marked"] = int(marked.sum())
        result[f"{split}/capitate_in_box"] = float(inside(capitate, box).float().mean())
        result[f"{split}/capitate_distance"] = float(distance.mean())
        truth = predictions.truth[marked]
        hand = truth[:, :, 2:].amax(dim=1) - truth[:, :, :2].amin(dim=1)
        shares = (distance / hand.amax(dim=1))[hand.isfinite().all(dim=1)]
        if len(shares):
            result[f"{split}/capitate_distance_of_hand"] = float(shares.mean())
    return result


def inside(points: Float[Tensor, "case 2"], boxes: Float[Tensor, "case 4"]) -> Bool[Tensor, " case"]:
    """Whether each point lies in its box."""
    return ((points >= boxes[:, :2]) & (points <= boxes[:, 2:])).all(dim=1)


def intersection(a: Float[Tensor, "case 4"], b: Float[Tensor, "case 4"]) -> Float[Tensor, " case"]:
    """Area that each pair of boxes shares."""
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    return size.prod(dim=1)
