"""Local lines: what simulated sites gain, and that a site without a difference loses nothing."""

import numpy as np
import pytest

from baa.metrics.local_line import IDENTITY, Line, apply_lines, fit_line, fit_lines
from baa.patient import Sex

SITES = 20


def site(rng, count, *, shift=0.0, slope=1.0, noise=8.0):
    """Sexes, predicted and true ages of a site whose readers differ from the model."""
    predicted = rng.uniform(20, 210, count)
    true = Line(shift, slope).of(predicted) + rng.normal(0, noise, count)
    return [Sex(int(sex)) for sex in rng.integers(0, 2, count)], predicted, true


def unseen_gain(count, **difference):
    """Mean gain in months of MAE on 500 further cases of each of `SITES` sites."""
    gains = []
    for seed in range(SITES):
        rng = np.random.default_rng(seed)
        fit = fit_lines(*site(rng, count, **difference))
        sexes, predicted, true = site(rng, 500, **difference)
        local = apply_lines(fit.lines, sexes, predicted)
        gains.append(np.abs(predicted - true).mean() - np.abs(local - true).mean())
    return np.array(gains)


@pytest.mark.parametrize("count", [30, 100, 200])
def test_a_site_without_a_difference_is_not_made_worse(count):
    gains = unseen_gain(count)
    assert gains.mean() > -0.08
    assert gains.min() > -0.8


@pytest.mark.parametrize(("count", "least"), [(30, 2.0), (100, 2.6), (200, 2.7)])
def test_readers_who_read_eight_months_older_are_followed(count, least):
    assert unseen_gain(count, shift=8.0).mean() > least


@pytest.mark.parametrize(("count", "least"), [(100, 0.1), (200, 0.2)])
def test_readers_with_another_slope_are_followed(count, least):
    assert unseen_gain(count, slope=1.08).mean() > least


def test_noisy_readers_cost_nothing():
    assert unseen_gain(100, noise=20.0).mean() > -0.1


def test_a_line_is_found_exactly_where_there_is_no_noise():
    predicted = np.linspace(20, 200, 200)
    line = fit_line(predicted, Line(5.0, 1.02).of(predicted))
    assert line.shift == pytest.approx(5.0, abs=0.1)
    assert line.slope == pytest.approx(1.02, abs=0.002)


def test_each_sex_has_its_own_line_and_an_unknown_sex_that_of_all():
    rng = np.random.default_rng(0)
    predicted = rng.uniform(20, 210, 200)
    sexes = [Sex.FEMALE, Sex.MALE] * 100
    fit = fit_lines(sexes, predicted, predicted + np.array([10.0, -6.0] * 100) + rng.normal(0, 2, 200))
    assert fit.used
    assert fit.lines[Sex.FEMALE].shift == pytest.approx(10, abs=1)
    assert fit.lines[Sex.MALE].shift == pytest.approx(-6, abs=1)
    assert fit.lines[Sex.UNKNOWN].shift == pytest.approx(2, abs=1.5)
    assert fit.mae_after < fit.mae_before / 3


def test_lines_that_gain_nothing_are_the_identity():
    predicted = np.linspace(20, 200, 40)
    fit = fit_lines([Sex.FEMALE] * 40, predicted, predicted + np.tile([5.0, -5.0], 20))
    assert not fit.used
    assert set(fit.lines.values()) == {IDENTITY}
    assert (fit.months == predicted).all()
