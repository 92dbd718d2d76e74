"""Months in, months out; losses in standard deviations."""

import pytest
import torch
from torch.testing import assert_close

from baa.nets.heads import AgeHead, AgePrediction, possible


def test_an_untrained_regression_answers_about_the_mean():
    head = AgeHead(3, mean_months=120.0, std_months=40.0)
    torch.nn.init.zeros_(head.layers[-1].weight)
    torch.nn.init.constant_(head.layers[-1].bias, 0.5)

    assert_close(head(torch.randn(4, 3)).months, torch.full((4,), 140.0))


def test_no_age_is_told_that_cannot_be():
    assert possible(torch.tensor([-1.0, 0.0, 100.0, 241.0])).tolist() == [0.0, 0.0, 100.0, 240.0]


def test_mse_is_equation_4_on_standardised_ages():
    head = AgeHead(3, mean_months=120.0, std_months=40.0)
    loss = head.loss(AgePrediction(torch.tensor([100.0, 140.0])), torch.tensor([140.0, 120.0]), "mse")

    assert loss.item() == pytest.approx(((40 / 40) ** 2 + (20 / 40) ** 2) / 2)


def test_a_distribution_answers_its_expectation():
    head = AgeHead(3, kind="distribution")
    torch.nn.init.zeros_(head.layers[-1].weight)
    bias = torch.full((41,), -1e9)
    bias[[10, 20]] = 0.0  # 60 and 120 months, equally likely
    head.layers[-1].bias.data = bias

    assert_close(head(torch.randn(2, 3)).months, torch.full((2,), 90.0))


@pytest.mark.parametrize("kind", ["regression", "distribution"])
def test_autocast_rounds_no_age_to_whole_months(kind):
    head, features = AgeHead(64, kind=kind), torch.randn(200, 64)
    with torch.autocast("cpu", torch.bfloat16):
        months = head(features).months

    assert months.dtype == torch.float32
    assert_close(months, head(features).months, atol=1e-3, rtol=0)


def test_a_distribution_is_best_off_at_the_blurred_truth():
    head = AgeHead(3, kind="distribution")
    truth = torch.tensor([93.0])
    blurred = -((truth[:, None] - head.bins) / 6.0).square() / 2
    at_truth = head.loss(AgePrediction(blurred.softmax(1) @ head.bins, blurred), truth, "l1")

    for shift in (-6.0, 6.0):
        moved = -((truth[:, None] + shift - head.bins) / 6.0).square() / 2
        assert head.loss(AgePrediction(moved.softmax(1) @ head.bins, moved), truth, "l1") > at_truth
