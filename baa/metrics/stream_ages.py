"""The age that each stream of an estimator gives alone, for example of the carpus and of the hand, and how far they differ."""

import math
from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from baa.data.cases import Case
from baa.metrics.conformal import calibrate, interval_of
from baa.patient import Sex

APART = "apart"
"""Group of the differences of the two ages on the validation split."""

UNUSUAL = 0.95
"""Share of the validation split whose ages differ less than what is reported as unusual."""


def stream_errors(
    cases: Sequence[Case],
    streams: Sequence[str],
    with_sex: Float[Tensor, "case stream"],
    without_sex: Float[Tensor, "case stream"],
) -> dict[str, list[float]]:
    """Collect the errors of each stream's age by sex, and the differences of the first two streams' ages, in months, sorted.

    Args:
        cases: N cases that the model was not trained on.
        streams: names of the S streams.
        with_sex, without_sex: predicted ages [N, S] in months, see `baa.metrics.conformal.calibrate`.
    """
    table: dict[str, list[float]] = {}
    for i, stream in enumerate(streams):
        errors = calibrate(cases, with_sex[:, i], without_sex[:, i])
        table |= {_group(stream, group): found for group, found in errors.items() if "/" not in group}
    if len(streams) > 1:
        apart = (with_sex[:, 0] - with_sex[:, 1]).abs()
        table[APART] = sorted(math.ceil(months * 100) / 100 for months in apart.tolist())
    return table


def stream_interval(
    table: Mapping[str, Sequence[float]], stream: str, sex: Sex, months: float, coverage: float
) -> tuple[float, float] | None:
    """Return the prediction interval of a stream's age; see `baa.metrics.conformal.interval_of`."""
    prefix = _group(stream, "")
    own = {group.removeprefix(prefix): errors for group, errors in table.items() if group.startswith(prefix)}
    return interval_of(own, sex, months, coverage)


def unusual_difference(table: Mapping[str, Sequence[float]]) -> float | None:
    """Return the difference in months that a share `UNUSUAL` of the validation split does not exceed; None if unknown.

    Example:
        >>> unusual_difference({"apart": [float(months) for months in range(1, 100)]})
        95.0
    """
    apart = table.get(APART, ())
    rank = math.ceil((len(apart) + 1) * UNUSUAL)
    return apart[rank - 1] if 0 < rank <= len(apart) else None


def _group(stream: str, group: str) -> str:
    return f"{stream} alone/{group}"
