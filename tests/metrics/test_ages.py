"""Metrics against figures worked out by hand."""

import pytest
import torch

from baa.data.cases import Case
from baa.data.sources.phantom.phantom import Phantom
from baa.metrics.ages import Gathered, Predictions, age_metrics, localisation, summarise
from baa.patient import Sex

NOWHERE = torch.full((4, 2, 4), float("nan"))
NO_POINT = torch.full((4, 2), float("nan"))


def case(months, sex):
    return Case("x", Phantom(0, 0, 60.0, sex), months, sex)


def test_ages_by_group():
    cases = [case(50.0, Sex.MALE), case(100.0, Sex.FEMALE), case(110.0, Sex.FEMALE), case(None, Sex.MALE)]
    predictions = Predictions(torch.tensor([54.0, 107.0, 90.0, 1.0]), NOWHERE, NO_POINT)
    result = summarise(cases, predictions, "test")

    assert result["test/cases"] == 3
    assert result["test/mae"] == pytest.approx((4 + 7 + 20) / 3)
    assert result["test/rmse"] == pytest.approx(((16 + 49 + 400) / 3) ** 0.5)
    assert result["test/within_6"] == pytest.approx(1 / 3)
    assert result["test/within_12"] == pytest.approx(2 / 3)
    assert result["test/bias"] == pytest.approx((4 + 7 - 20) / 3)
    assert result["test/female/mae"] == pytest.approx(13.5)
    assert result["test/60_to_119_months/mae"] == pytest.approx(13.5)
    assert "test/male/mae" not in result  # one case says nothing


def test_shares_that_agree_in_the_first_batch_do_not_become_one():
    metrics = age_metrics("val/")
    metrics.update(torch.tensor([50.0, 60.0]), torch.tensor([90.0, 90.0]))
    metrics.update(torch.tensor([80.0, 90.0]), torch.tensor([90.0, 90.0]))

    assert metrics.compute()["val/within_6"] == pytest.approx(1 / 4)
    assert metrics.compute()["val/within_12"] == pytest.approx(2 / 4)


def test_the_interval_holds_the_mean_and_narrows_with_more_cases():
    def width(n):
        errors = torch.randn(n, generator=torch.Generator().manual_seed(1)) * 10
        cases = [case(100.0, Sex.MALE)] * n
        predictions = Predictions(100 + errors, NOWHERE[:1].repeat(n, 1, 1), NO_POINT[:1].repeat(n, 1))
        result = summarise(cases, predictions, "test")
        low, high = result["test/mae_ci"]
        assert low < result["test/mae"] < high
        return high - low

    assert width(400) == pytest.approx(2 * 1.96 * 10 * 0.6028 / 400**0.5, rel=0.25)  # deviation of |N(0, 1)|
    assert width(400) < width(50)


def test_localisation_by_hand():
    truth = torch.tensor([[[0.2, 0.2, 0.4, 0.4], [0.0, 0.0, 1.0, 1.0]]])
    boxes = torch.tensor([[[0.3, 0.2, 0.5, 0.4], [0.0, 0.0, 0.5, 0.5]]])
    peaks = torch.tensor([[[0.45, 0.3], [0.5, 0.5]]])
    fallback = torch.tensor([[False, True]])
    result = localisation(Predictions(torch.zeros(1), truth, torch.tensor([[0.4, 0.34]]), boxes, peaks, fallback), "test")

    assert result["test/carpal_pointing"] == 0
    assert result["test/hand_pointing"] == 1
    assert result["test/carpal_iou"] == pytest.approx(1 / 3)
    assert result["test/carpal_coverage"] == pytest.approx(0.5)
    assert result["test/hand_coverage"] == pytest.approx(0.25)
    assert result["test/hand_fallback"] == 1
    assert result["test/capitate_distance"] == pytest.approx(0.04)
    assert result["test/capitate_distance_of_hand"] == pytest.approx(0.04)


def test_what_is_gathered_is_in_the_order_of_the_cases_and_keeps_nan():
    gathered = Gathered()
    for case, months in (([2, 0], [9.0, 7.0]), ([1], [8.0])):
        unknown = torch.full((len(case), 2, 4), torch.nan)
        gathered.update(torch.tensor(case), Predictions(torch.tensor(months), unknown, unknown[:, 0, :2]))
    found = gathered.compute()

    assert found.months.tolist() == [7.0, 8.0, 9.0]
    assert found.truth.shape == (3, 2, 4)
    assert found.capitate.isnan().all()
    assert found.boxes is None
