"""Ages are months; losses are of standardized ages."""

import pytest
import torch
from torch.testing import assert_close

from baa.nets.heads import AgeHead, AgePrediction, clamp_to_age_range


def test_a_regression_output_is_in_standard_deviations_from_the_mean_age():
    head = AgeHead(3, mean_months=120.0, std_months=40.0)
    torch.nn.init.zeros_(head.layers[-1].weight)
    torch.nn.init.constant_(head.layers[-1].bias, 0.5)

    assert_close(head(torch.randn(4, 3)).months, torch.full((4,), 140.0))


def test_ages_are_clamped_to_the_age_range():
    assert clamp_to_age_range(torch.tensor([-1.0, 0.0, 100.0, 241.0])).tolist() == [0.0, 0.0, 100.0, 240.0]


def test_mse_is_equation_4_on_standardized_ages():
    head = AgeHead(3, mean_months=120.0, std_months=40.0)
    loss = head.loss(AgePrediction(torch.tensor([100.0, 140.0])), torch.tensor([140.0, 120.0]), "mse")

    assert loss.item() == pytest.approx(((40 / 40) ** 2 + (20 / 40) ** 2) / 2)


def test_the_age_of_a_distribution_is_its_mean():
    head = AgeHead(3, kind="distribution")
    torch.nn.init.zeros_(head.layers[-1].weight)
    bias = torch.full((41,), -1e9)
    bias[[10, 20]] = 0.0  # 60 and 120 months, equally likely
    head.layers[-1].bias.data = bias

    assert_close(head(torch.randn(2, 3)).months, torch.full((2,), 90.0))


@pytest.mark.parametrize("kind", ["regression", "distribution"])
def test_ages_keep_their_precision_under_autocast(kind):
    head, features = AgeHead(64, kind=kind), torch.randn(200, 64)
    with torch.autocast("cpu", torch.bfloat16):
        months = head(features).months

    assert months.dtype == torch.float32
    assert_close(months, head(features).months, atol=1e-3, rtol=0)


def test_the_loss_of_a_distribution_is_lowest_at_the_blurred_true_age():
    head = AgeHead(3, kind="distribution")
    true_age = torch.tensor([93.0])
    blurred = -((true_age[:, None] - head.bins) / 6.0).square() / 2
    at_true_age = head.loss(AgePrediction(blurred.softmax(1) @ head.bins, blurred), true_age, "l1")

    for shift in (-6.0, 6.0):
        moved = -((true_age[:, None] + shift - head.bins) / 6.0).square() / 2
        assert head.loss(AgePrediction(moved.softmax(1) @ head.bins, moved), true_age, "l1") > at_true_age
