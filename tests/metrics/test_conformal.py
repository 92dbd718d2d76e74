"""Intervals cover what they promise, group by group, and where there are too few cases they say so."""

import pytest
import torch

from baa.data.cases import Case
from baa.data.sources.phantom.phantom import phantom_cases
from baa.metrics.conformal import FEWEST, calibrate, covered, half_width, interval_of
from baa.patient import Sex

IMAGE = phantom_cases(1, seed=0)[0].image


def cohort(count, seed, *, noise_of_girls=2.0, noise_of_boys=10.0):
    """Cases and readings of them: girls are read well, boys are not, the unknown worse."""
    draw = torch.Generator().manual_seed(seed)
    sexes = [Sex.FEMALE if i % 2 else Sex.MALE for i in range(count)]
    true = torch.rand(count, generator=draw) * 215 + 10
    noise = torch.randn(count, generator=draw)
    scale = torch.tensor([noise_of_girls if sex == Sex.FEMALE else noise_of_boys for sex in sexes])
    cases = [Case(str(i), IMAGE, float(true[i]), sexes[i]) for i in range(count)]
    return cases, true + noise * scale, true + noise * 20


def test_intervals_cover_what_they_promise_in_every_group():
    errors = calibrate(*cohort(1500, seed=0))
    cases, told, _ = cohort(4000, seed=1)
    for coverage in (0.8, 0.9):
        shares = {name: value for name, value in covered(cases, told, errors, coverage, "test").items() if "covered" in name}
        assert len(shares) == 6  # in all, two sexes, three bands
        assert all(abs(share - coverage) < 0.04 for share in shares.values()), shares
    widths = covered(cases, told, errors, 0.9, "test")
    assert widths["test/female/interval_90_months"] < 0.4 * widths["test/male/interval_90_months"]


def test_an_unknown_sex_has_intervals_of_its_own():
    errors = calibrate(*cohort(1500, seed=0))
    cases, _, untold = cohort(3000, seed=1)
    hidden = [Case(case.id, case.image, case.months, Sex.UNKNOWN) for case in cases]
    assert covered(hidden, untold, errors, 0.9, "test")["test/covered_90"] == pytest.approx(0.9, abs=0.03)
    assert half_width(errors, Sex.UNKNOWN, 100, 0.9) > 1.4 * half_width(errors, Sex.MALE, 100, 0.9)


def test_the_quantile_is_the_one_of_the_paper():
    cases = [Case(str(i), IMAGE, 100.0, Sex.MALE) for i in range(FEWEST)]
    errors = calibrate(cases, torch.tensor([100.0 + i + 1 for i in range(FEWEST)]))
    assert half_width(errors, Sex.MALE, 110.0, 0.9) == 46  # ceil(51 * 0.9) = 46
    assert interval_of(errors, Sex.MALE, 10.0, 0.9) == (0.0, 56.0)


@pytest.mark.parametrize(
    ("read", "expected"), [(250.0, (200.0, 240.0)), (-20.0, (0.0, 30.0)), (-90.0, (0.0, 0.0)), (float("nan"), None)]
)
def test_whatever_a_regression_reads_an_interval_stays_among_the_ages(read, expected):
    assert interval_of({"all": [50.0] * 100}, Sex.MALE, read, 0.9) == expected
    assert calibrate([Case("a", IMAGE, 100.0, Sex.MALE)], torch.tensor([250.0]))["all"] == [150.0]


def test_groups_that_are_too_small_give_way_and_too_few_cases_say_nothing():
    cases, told, _ = cohort(FEWEST, seed=0)
    errors = calibrate(cases, told)
    assert set(errors) == {"all", "unknown"}
    assert half_width(errors, Sex.MALE, 100, 0.9) == half_width(errors, Sex.FEMALE, 10, 0.9) == errors["all"][45]
    assert half_width(errors, Sex.MALE, 100, 0.99) is None
    assert half_width({}, Sex.MALE, 100, 0.5) is None
    assert calibrate([Case("a", IMAGE, None, Sex.MALE)], torch.tensor([1.0])) == {}
