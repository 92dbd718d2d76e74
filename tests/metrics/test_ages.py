"""Age metrics against values computed by hand."""

import pytest
import torch

from baa.data.cases import Case
from baa.data.sources.phantom import Phantom
from baa.metrics.ages import age_metrics, summarize
from baa.metrics.predictions import Predictions
from baa.patient import Sex

NO_BOX = torch.full((4, 2, 4), float("nan"))
NO_POINT = torch.full((4, 2), float("nan"))


def case(months, sex):
    return Case("x", Phantom(0, 0, 60.0, sex), months, sex)


def test_metrics_by_subgroup():
    cases = [case(50.0, Sex.MALE), case(100.0, Sex.FEMALE), case(110.0, Sex.FEMALE), case(None, Sex.MALE)]
    predictions = Predictions(torch.tensor([54.0, 107.0, 90.0, 1.0]), NO_BOX, NO_POINT)
    result = summarize(cases, predictions, "test")

    assert result["test/cases"] == 3
    assert result["test/mae"] == pytest.approx((4 + 7 + 20) / 3)
    assert result["test/rmse"] == pytest.approx(((16 + 49 + 400) / 3) ** 0.5)
    assert result["test/within_6"] == pytest.approx(1 / 3)
    assert result["test/within_12"] == pytest.approx(2 / 3)
    assert result["test/bias"] == pytest.approx((4 + 7 - 20) / 3)
    assert result["test/female/mae"] == pytest.approx(13.5)
    assert result["test/60_to_119_months/mae"] == pytest.approx(13.5)
    assert "test/male/mae" not in result  # one case is too few


def test_shares_that_agree_in_the_first_batch_stay_separate():
    metrics = age_metrics("val/")
    metrics.update(torch.tensor([50.0, 60.0]), torch.tensor([90.0, 90.0]))
    metrics.update(torch.tensor([80.0, 90.0]), torch.tensor([90.0, 90.0]))

    assert metrics.compute()["val/within_6"] == pytest.approx(1 / 4)
    assert metrics.compute()["val/within_12"] == pytest.approx(2 / 4)


def test_the_interval_contains_the_mean_and_narrows_with_more_cases():
    def width(n):
        errors = torch.randn(n, generator=torch.Generator().manual_seed(1)) * 10
        cases = [case(100.0, Sex.MALE)] * n
        predictions = Predictions(100 + errors, NO_BOX[:1].repeat(n, 1, 1), NO_POINT[:1].repeat(n, 1))
        result = summarize(cases, predictions, "test")
        low, high = result["test/mae_ci"]
        assert low < result["test/mae"] < high
        return high - low

    assert width(400) == pytest.approx(2 * 1.96 * 10 * 0.6028 / 400**0.5, rel=0.25)  # standard deviation of |N(0, 1)|
    assert width(400) < width(50)


def test_localization_metrics_are_those_of_the_named_regions():
    boxes, points = torch.rand(2, 1, 4), torch.rand(2, 1, 2)
    predictions = Predictions(torch.rand(2), NO_BOX[:2, :1], NO_POINT[:2], boxes, points, torch.tensor([[True], [False]]))
    cases = [case(50.0, Sex.MALE)] * 2

    assert summarize(cases, predictions, "test", ["wrist"])["test/wrist_fallback"] == 0.5
    with pytest.raises(AssertionError, match="1 regions, but the names"):
        summarize(cases, predictions, "test")
