"""A line per sex from a model's ages to those of local readers, learned from few radiographs and shrunk to the identity.

Bayesian linear regression with Gaussian priors about the identity: Bishop, "Pattern Recognition and Machine Learning", 2006,
sec. 3.3. Cross-validation decides whether the lines are used at all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from baa.patient import Sex

MIDDLE_MONTHS = 120.0
PRIOR_SHIFT_MONTHS, PRIOR_SLOPE = 6.0, 0.05
"""Standard deviations of the shift of readers at `MIDDLE_MONTHS`, and of their slope about 1."""

FOLDS = 10
FEWEST = 30
FEWEST_OF_A_SEX = 10
"""A sex with fewer cases has the line of all cases."""


class Line(NamedTuple):
    """A local age is `months + shift + (slope - 1) * (months - MIDDLE_MONTHS)`. Both are numbers, or arrays [N].

    Example:
        >>> Line(shift=3.0, slope=1.1).of(np.array([120.0, 140.0])).round(1).tolist()
        [123.0, 145.0]
    """

    shift: Any
    slope: Any

    def of(self, months: np.ndarray) -> np.ndarray:
        """Apply the line to ages [N] in months."""
        return months + self.shift + (self.slope - 1) * (months - MIDDLE_MONTHS)


IDENTITY = Line(0.0, 1.0)


class LocalFit(NamedTuple):
    """Lines by sex, and what they gain.

    lines: of every `Sex`; the identity where they gain nothing. months: ages [N] of the cases, each by lines that were learned
    without it. mae_before, mae_after: mean absolute errors of the model's ages and of these, in months. used: whether the gain
    exceeds its standard error.
    """

    lines: dict[Sex, Line]
    months: np.ndarray
    mae_before: float
    mae_after: float
    used: bool


def fit_line(predicted: np.ndarray, true: np.ndarray) -> Line:
    """Learn a line from predicted and true ages [N] in months.

    Example:
        >>> predicted = np.linspace(60.0, 180.0, 200)
        >>> round(fit_line(predicted, predicted + 5.0).shift, 1)
        5.0
    """
    residual = true - predicted
    noise = max(float(residual.var()), 1.0)
    design = np.stack([np.ones_like(predicted), predicted - MIDDLE_MONTHS], axis=1)
    precision = design.T @ design / noise + np.diag([PRIOR_SHIFT_MONTHS**-2, PRIOR_SLOPE**-2])
    shift, steeper = np.linalg.solve(precision, design.T @ residual / noise)
    return Line(float(shift), 1 + float(steeper))


def fit_lines(sexes: Sequence[Sex], predicted: np.ndarray, true: np.ndarray, *, seed: int = 0) -> LocalFit:
    """Learn a line per sex, and measure their gain by cross-validation.

    Args:
        sexes: of N cases.
        predicted, true: their ages [N] in months, by the model and by the local readers.
        seed: of the folds.
    """
    fold = np.random.default_rng(seed).permutation(len(sexes)) % FOLDS
    months = np.empty(len(sexes))
    for left_out in range(FOLDS):
        out, kept = (np.flatnonzero(chosen).tolist() for chosen in (fold == left_out, fold != left_out))
        lines = _lines([sexes[i] for i in kept], predicted[kept], true[kept])
        months[out] = apply_lines(lines, [sexes[i] for i in out], predicted[out])
    before, after = np.abs(predicted - true), np.abs(months - true)
    gain = before - after
    used = bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))
    lines = _lines(sexes, predicted, true) if used else dict.fromkeys(Sex, IDENTITY)
    return LocalFit(lines, months if used else predicted, float(before.mean()), float(after.mean()), used)


def _lines(sexes: Sequence[Sex], predicted: np.ndarray, true: np.ndarray) -> dict[Sex, Line]:
    of_all, known = fit_line(predicted, true), np.array(sexes)
    lines = {}
    for one in Sex:
        chosen = known == one
        lines[one] = fit_line(predicted[chosen], true[chosen]) if chosen.sum() >= FEWEST_OF_A_SEX else of_all
    return lines


def apply_lines(lines: Mapping[Sex, Line], sexes: Sequence[Sex], months: np.ndarray) -> np.ndarray:
    """Apply to each age [N] in months the line of its sex."""
    shift, slope = np.array([lines[sex] for sex in sexes]).T
    return Line(shift, slope).of(months)
