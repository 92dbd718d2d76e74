"""Estimated ages lie closer to the mean than true ones: a line that spreads them again.

A network that is unsure answers with the mean of what it deems possible: the youngest are read too old, the oldest too young.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

from baa.data.cases import Case
from baa.metrics.local_line import MIDDLE_MONTHS, Line

FEWEST, FEWEST_YEARS = 100, 5
"""Cases, and years between the youngest and the oldest, below which nothing is learned."""

LARGEST_SLOPE = 1.1


def spreading_line(cases: Sequence[Case], months: Float[Tensor, " case"]) -> Line:
    """Learn the line after which estimated ages have no bias against the true age.

    Estimated ages are fitted by least squares as a + b * true age; the line is the inverse. Its slope is at least 1.

    Args:
        cases: N cases; those of unknown age do not count.
        months: their estimated ages [N].

    Returns:
        The line; the identity for few cases or a narrow range of ages.
    """
    known = [i for i, case in enumerate(cases) if case.months is not None]
    true = np.array([cases[i].months for i in known], dtype=float)
    if len(true) < FEWEST or np.ptp(true) < 12 * FEWEST_YEARS:
        return Line(0.0, 1.0)
    b, a = np.polyfit(true, months[known].double().numpy(), deg=1)
    slope = float(np.clip(1 / b, 1.0, LARGEST_SLOPE)) if b > 0 else LARGEST_SLOPE
    fixed = np.mean(true)  # where the mean of the estimates is left in the mean of the true ages
    estimated = a + b * fixed
    return Line(float(fixed - estimated + (slope - 1) * (MIDDLE_MONTHS - estimated)), slope)
