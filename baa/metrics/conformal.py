"""Split-conformal prediction intervals, by sex and predicted age.

Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al., "Distribution-Free Predictive Inference for
Regression", JASA 2018, https://arxiv.org/abs/1604.04173. The half width of an interval with coverage c is the
ceil((n + 1) c)-th smallest absolute error of n calibration cases. On data like the calibration cases the interval contains the
true age with probability c. There is no guarantee for other data.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from baa.data.cases import Case
from baa.metrics.coverage import interval_width, share_inside
from baa.metrics.saturation import OR_LESS, OR_MORE, open_end
from baa.patient import MAX_MONTHS, Sex

CALIBRATED_BANDS_MONTHS = {"0_to_95_months": (0, 96), "96_to_155_months": (96, 156), "156_to_240_months": (156, 241)}
MIN_GROUP_CASES = 50
"""The fewest calibration cases of a group. A smaller group uses the errors of its sex, then of all cases."""

ALL = "all"

Errors = Mapping[str, Sequence[float]]
"""Sorted absolute errors in months, by group of calibration cases. Further groups have the saturated ends and stream ages."""


def calibrate(
    cases: Sequence[Case], with_sex: Float[Tensor, " case"], without_sex: Float[Tensor, " case"] | None = None
) -> dict[str, list[float]]:
    """Collect the errors of calibration cases by group. Cases without an age are left out.

    Args:
        cases: N cases that the model was not trained on.
        with_sex: predicted ages [N] in months, with each case's known sex.
        without_sex: predicted ages [N] with the sex hidden; None for a network that reads no sex.

    Returns:
        Sorted absolute errors in months by group.

    Example:
        >>> from baa.data.sources.phantom import phantom_cases
        >>> cases = phantom_cases(3, seed=0)
        >>> calibrate(cases, torch.tensor([case.months for case in cases]) + torch.tensor([4.0, -2.0, 1.0]))
        {'all': [1.0, 2.0, 4.0]}
    """
    errors: dict[str, list[float]] = {}
    for i, case in enumerate(cases):
        if case.months is None:
            continue
        predicted = {case.sex: float(with_sex[i])}
        predicted[Sex.UNKNOWN] = float(with_sex[i] if without_sex is None else without_sex[i])
        for sex, months in predicted.items():
            for group in _groups(sex, months):
                if group != ALL or sex == case.sex:
                    errors.setdefault(group, []).append(math.ceil(abs(months - case.months) * 100) / 100)
    return {group: sorted(found) for group, found in sorted(errors.items()) if len(found) >= MIN_GROUP_CASES or group == ALL}


def half_width(errors: Errors, sex: Sex, months: float, coverage: float) -> float | None:
    """Return the half width of the interval around a predicted age, in months; None if calibration cases are too few.

    Args:
        errors: from `calibrate`.
        sex: the sex that the network received.
        months: the predicted age.
        coverage: share of intervals that should contain the true age, in (0, 1).
    """
    for group in _groups(sex, months):
        found = errors.get(group, ())
        rank = math.ceil((len(found) + 1) * coverage)
        if 0 < rank <= len(found):
            return found[rank - 1]
    return None


def _groups(sex: Sex, months: float) -> Iterator[str]:
    """The groups of a prediction, narrowest first. Errors with a known sex never stand for an unknown sex."""
    name = sex.name.lower()
    yield f"{name}/{_band(months)}"
    yield name
    if sex != Sex.UNKNOWN:
        yield ALL


def _band(months: float) -> str:
    """The age band; the last one is open because a regression may predict any age."""
    *younger, oldest = CALIBRATED_BANDS_MONTHS
    return next((name for name in younger if months < CALIBRATED_BANDS_MONTHS[name][1]), oldest)


def interval_of(errors: Errors, sex: Sex, months: float, coverage: float) -> tuple[float, float] | None:
    """Return the prediction interval around an age, in months, clamped to the age range. For the arguments see `half_width`.

    An age at a saturated end (`baa.metrics.saturation`) has an interval that is open there.

    Returns:
        None if there are too few calibration cases or the age is not finite.

    Example:
        >>> errors = {"all": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]}
        >>> interval_of(errors, Sex.MALE, 100.0, coverage=0.9)
        (91.0, 109.0)
        >>> interval_of(errors, Sex.MALE, 100.0, coverage=0.95) is None
        True
    """
    half = half_width(errors, sex, months, coverage) if math.isfinite(months) else None
    if half is None:
        return None
    low, high = (min(max(edge, 0.0), MAX_MONTHS) for edge in (months - half, months + half))
    end = open_end(errors, sex, months)
    return (0.0 if end == OR_LESS else low), (MAX_MONTHS if end == OR_MORE else high)


def covered(
    cases: Sequence[Case], months: Float[Tensor, " case"], errors: Errors, coverage: float, split: str
) -> dict[str, float]:
    """Compute the share of true ages inside their intervals, and the mean width in months: all, by sex, by band of true age.

    Args:
        cases: N cases.
        months: predicted ages [N].
        errors: from `calibrate`.
        coverage: the requested coverage.
        split: prefix of the names.
    """
    groups: dict[str, list[tuple[bool, float]]] = {}
    for case, predicted in zip(cases, months.tolist(), strict=True):
        interval = interval_of(errors, case.sex, predicted, coverage)
        if case.months is None or interval is None:
            continue
        low, high = interval
        inside = low <= case.months <= high
        for name in ("", f"{case.sex.name.lower()}/", f"{_band(case.months)}/"):
            groups.setdefault(name, []).append((inside, high - low))
    result: dict[str, float] = {}
    for name, found in groups.items():
        inside, width = torch.tensor(found, dtype=torch.float64).mean(dim=0).tolist()
        result |= {f"{split}/{name}{share_inside(coverage)}": inside, f"{split}/{name}{interval_width(coverage)}": width}
    return result
