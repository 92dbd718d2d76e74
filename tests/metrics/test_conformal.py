"""Prediction intervals have the requested coverage in every group, and are None if there are too few cases."""

import pytest
import torch

from baa.data.cases import Case
from baa.data.sources.phantom import phantom_cases
from baa.metrics.conformal import MIN_GROUP_CASES, calibrate, covered, half_width, interval_of
from baa.patient import Sex

IMAGE = phantom_cases(1, seed=0)[0].image


def draw_cases(count, seed, *, noise_of_girls=2.0, noise_of_boys=10.0):
    """Cases and predicted ages with and without sex: girls have a small error, boys a larger one, unknown sex the largest."""
    draw = torch.Generator().manual_seed(seed)
    sexes = [Sex.FEMALE if i % 2 else Sex.MALE for i in range(count)]
    true = torch.rand(count, generator=draw) * 215 + 10
    noise = torch.randn(count, generator=draw)
    scale = torch.tensor([noise_of_girls if sex == Sex.FEMALE else noise_of_boys for sex in sexes])
    cases = [Case(str(i), IMAGE, float(true[i]), sexes[i]) for i in range(count)]
    return cases, true + noise * scale, true + noise * 20


def test_every_group_has_the_requested_coverage():
    errors = calibrate(*draw_cases(1500, seed=0))
    cases, with_sex, _ = draw_cases(4000, seed=1)
    for coverage in (0.8, 0.9):
        shares = {
            name: value for name, value in covered(cases, with_sex, errors, coverage, "test").items() if "covered" in name
        }
        assert len(shares) == 6  # overall, two sexes, three bands
        assert all(abs(share - coverage) < 0.04 for share in shares.values()), shares
    widths = covered(cases, with_sex, errors, 0.9, "test")
    assert widths["test/female/interval_90_months"] < 0.4 * widths["test/male/interval_90_months"]


def test_an_unknown_sex_has_its_own_intervals():
    errors = calibrate(*draw_cases(1500, seed=0))
    cases, _, without_sex = draw_cases(3000, seed=1)
    hidden = [Case(case.id, case.image, case.months, Sex.UNKNOWN) for case in cases]
    assert covered(hidden, without_sex, errors, 0.9, "test")["test/covered_90"] == pytest.approx(0.9, abs=0.03)
    assert half_width(errors, Sex.UNKNOWN, 100, 0.9) > 1.4 * half_width(errors, Sex.MALE, 100, 0.9)


def test_the_quantile_is_that_of_the_paper():
    cases = [Case(str(i), IMAGE, 100.0, Sex.MALE) for i in range(MIN_GROUP_CASES)]
    errors = calibrate(cases, torch.tensor([100.0 + i + 1 for i in range(MIN_GROUP_CASES)]))
    assert half_width(errors, Sex.MALE, 110.0, 0.9) == 46  # ceil(51 * 0.9) = 46
    assert interval_of(errors, Sex.MALE, 10.0, 0.9) == (0.0, 56.0)


@pytest.mark.parametrize(
    ("predicted", "expected"), [(250.0, (200.0, 240.0)), (-20.0, (0.0, 30.0)), (-90.0, (0.0, 0.0)), (float("nan"), None)]
)
def test_an_interval_stays_in_the_age_range(predicted, expected):
    assert interval_of({"all": [50.0] * 100}, Sex.MALE, predicted, 0.9) == expected
    assert calibrate([Case("a", IMAGE, 100.0, Sex.MALE)], torch.tensor([250.0]))["all"] == [150.0]


def test_small_groups_use_the_errors_of_all_and_too_few_cases_give_none():
    cases, with_sex, _ = draw_cases(MIN_GROUP_CASES, seed=0)
    errors = calibrate(cases, with_sex)
    assert set(errors) == {"all", "unknown"}
    assert half_width(errors, Sex.MALE, 100, 0.9) == half_width(errors, Sex.FEMALE, 10, 0.9) == errors["all"][45]
    assert half_width(errors, Sex.MALE, 100, 0.99) is None
    assert half_width({}, Sex.MALE, 100, 0.5) is None
    assert calibrate([Case("a", IMAGE, None, Sex.MALE)], torch.tensor([1.0])) == {}
