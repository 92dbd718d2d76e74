"""Where a model's answers saturate: ages beyond the ones that it gives are read as the last that it gives.

The ends are measured on validation cases, by sex. A saturated end is the median predicted age of the cases whose true age lies
beyond nearly all predicted ages. A model that reaches all ages has few such cases, and its ends lie at the ends of the data.
"""

import statistics
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from baa.data.cases import Case
from baa.patient import Sex

OR_LESS, OR_MORE = "or less", "or more"

YOUNGEST, OLDEST = "youngest", "oldest"
"""Groups of predicted ages: of the validation cases whose true age is below, or above, nearly all predicted ages."""

NEARLY_ALL = 0.98
MIN_CASES = 50
"""The fewest validation cases of a sex whose ends are measured."""


def saturated(
    cases: Sequence[Case], with_sex: Float[Tensor, " case"], without_sex: Float[Tensor, " case"] | None = None
) -> dict[str, list[float]]:
    """Collect the predicted ages of the cases beyond either end, sorted, as `END/SEX`. Ends without such a case are absent.

    Args:
        cases, with_sex, without_sex: see `baa.metrics.conformal.calibrate`.
    """
    found: dict[str, list[float]] = {}
    for sex in Sex:
        predicted = with_sex if sex != Sex.UNKNOWN or without_sex is None else without_sex
        known = [i for i, case in enumerate(cases) if case.months is not None and sex in (case.sex, Sex.UNKNOWN)]
        if len(known) < MIN_CASES:
            continue
        months, true = predicted[known].double(), torch.tensor([cases[i].months for i in known], dtype=torch.float64)
        beyond = {YOUNGEST: true < months.quantile(1 - NEARLY_ALL), OLDEST: true > months.quantile(NEARLY_ALL)}
        for end, chosen in beyond.items():
            if chosen.any():
                found[f"{end}/{sex.name.lower()}"] = sorted(round(age, 2) for age in months[chosen].tolist())
    return found


def end_of(table: Mapping[str, Sequence[float]], end: str, sex: Sex) -> float | None:
    """Return the predicted age, in months, from which an end is saturated; None if it is not.

    Args:
        table: of `saturated`.
        end: `YOUNGEST` or `OLDEST`.
        sex: that the network received.
    """
    ages = table.get(f"{end}/{sex.name.lower()}")
    return statistics.median(ages) if ages else None


def open_end(table: Mapping[str, Sequence[float]], sex: Sex, months: float) -> str:
    """Return `OR_MORE` or `OR_LESS` for a predicted age at a saturated end, else an empty text.

    Args:
        table: of `saturated`.
        sex: that the network received.
        months: the predicted age.

    Example:
        >>> open_end({"oldest/male": [214.0, 216.0, 219.0]}, Sex.MALE, 217.5)
        'or more'
    """
    youngest, oldest = (end_of(table, end, sex) for end in (YOUNGEST, OLDEST))
    if oldest is not None and months >= oldest:
        return OR_MORE
    return OR_LESS if youngest is not None and months <= youngest else ""
