"""How far off an age may be: split conformal intervals, by sex and by the age that was read.

Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005; Lei et al., "Distribution-Free Predictive Inference for
Regression", JASA 2018, https://arxiv.org/abs/1604.04173. An interval of coverage c reaches as far to both sides as the
ceil((n + 1) c)-th smallest error of n calibration cases. Of hands like theirs a share c lies inside; of others nobody knows.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from baa.data.cases import Case
from baa.metrics.coverage import interval_width, share_inside
from baa.patient import MAX_MONTHS, Sex

CALIBRATED_BANDS_MONTHS = {"0_to_95_months": (0, 96), "96_to_155_months": (96, 156), "156_to_240_months": (156, 241)}
FEWEST = 50
"""Calibration cases that a group needs to speak for itself; below, its sex does, or everybody."""

ALL = "all"

Errors = Mapping[str, Sequence[float]]
"""Of each group of calibration cases, sorted absolute errors in months."""


def calibrate(
    cases: Sequence[Case], with_sex: Float[Tensor, " case"], without_sex: Float[Tensor, " case"] | None = None
) -> dict[str, list[float]]:
    """The errors on calibration cases, by group; cases without an age do not count.

    Args:
        cases: none of which was trained on.
        with_sex: ages read, in months, with the sex known where the case says it.
        without_sex: ages read with every sex kept back, for who predicts without; None of a network that reads no sex.
    """
    errors: dict[str, list[float]] = {}
    for i, case in enumerate(cases):
        if case.months is None:
            continue
        readings = {case.sex: float(with_sex[i])}
        readings[Sex.UNKNOWN] = float(with_sex[i] if without_sex is None else without_sex[i])
        for sex, months in readings.items():
            for group in _groups(sex, months):
                if group != ALL or sex == case.sex:
                    errors.setdefault(group, []).append(math.ceil(abs(months - case.months) * 100) / 100)
    return {group: sorted(found) for group, found in sorted(errors.items()) if len(found) >= FEWEST or group == ALL}


def half_width(errors: Errors, sex: Sex, months: float, coverage: float) -> float | None:
    """How far an interval about an age reaches to both sides, in months; None if there are too few cases to say.

    Args:
        errors: of calibration.
        sex: as it was told to the network.
        months: the age read.
        coverage: share of intervals that are to hold the truth, in (0, 1).
    """
    for group in _groups(sex, months):
        found = errors.get(group, ())
        place = math.ceil((len(found) + 1) * coverage)
        if 0 < place <= len(found):
            return found[place - 1]
    return None


def _groups(sex: Sex, months: float) -> Iterator[str]:
    """From the narrowest to the widest; an unknown sex is never taken for everybody's."""
    name = sex.name.lower()
    yield f"{name}/{_band(months)}"
    yield name
    if sex != Sex.UNKNOWN:
        yield ALL


def _band(months: float) -> str:
    """The last band has no end: a regression may read any age."""
    *younger, oldest = CALIBRATED_BANDS_MONTHS
    return next((name for name in younger if months < CALIBRATED_BANDS_MONTHS[name][1]), oldest)


def interval_of(errors: Errors, sex: Sex, months: float, coverage: float) -> tuple[float, float] | None:
    """The interval about an age, in months, within what an age can be; None if too few cases tell, or the age is no number."""
    half = half_width(errors, sex, months, coverage) if math.isfinite(months) else None
    if half is None:
        return None
    low, high = (min(max(edge, 0.0), MAX_MONTHS) for edge in (months - half, months + half))
    return low, high


def covered(
    cases: Sequence[Case], months: Float[Tensor, " case"], errors: Errors, coverage: float, split: str
) -> dict[str, float]:
    """Share of true ages inside their intervals, and the mean width of these in months: all, by sex, by band of the true age.

    Args:
        cases: N cases.
        months: ages read.
        errors: of calibration.
        coverage: asked for.
        split: the names' prefix.
    """
    groups: dict[str, list[tuple[bool, float]]] = {}
    for case, read in zip(cases, months.tolist(), strict=True):
        interval = interval_of(errors, case.sex, read, coverage)
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
