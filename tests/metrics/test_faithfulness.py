"""Faithfulness of heat maps, on a network whose use of the image is known."""

import pytest
import torch
from torch.testing import assert_close

from baa.metrics.faithfulness import curves, occlusion, rank_correlation, with_random_weights

SPOT = (slice(16, 32), slice(64, 80))


def spot_age(image):
    """Ten months for each unit of brightness in one spot; the rest of the image is not used."""
    return 10 * image[:, 0, SPOT[0], SPOT[1]].mean(dim=(1, 2))


@pytest.fixture
def image():
    return torch.rand(3, 1, 96, 96) * 0.5 + 0.5


def maps(rows, columns):
    heat = torch.zeros(3, 96, 96)
    heat[:, rows, columns] = 1.0
    return heat


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_hiding_the_hottest_square_of_a_faithful_map_moves_the_age_and_the_coldest_does_not(image, generator):
    found = occlusion(spot_age, image, maps(*SPOT), generator)

    assert_close(found["occlusion_hottest"], spot_age(image))
    assert_close(found["occlusion_coldest"], torch.zeros(3))


def test_a_faithful_map_deletes_and_inserts_faster_than_chance_and_a_wrong_one_slower(image, generator):
    right = curves(spot_age, image, maps(*SPOT), generator)
    wrong = curves(spot_age, image, maps(SPOT[1], SPOT[0]), generator)

    assert (right["deletion_hottest"] > right["deletion_random"] + 1).all()
    assert (right["insertion_hottest"] < right["insertion_random"] - 1).all()
    assert (right["deletion_coldest"] < 0.5).all()
    assert (wrong["deletion_hottest"] < right["deletion_hottest"] - 1).all()


def test_rank_correlation_is_spearmans():
    heat = torch.rand(2, 6, 6)

    assert_close(rank_correlation(heat, heat.exp()), torch.ones(2))
    assert_close(rank_correlation(heat, -heat), -torch.ones(2))
    assert rank_correlation(heat, torch.rand(2, 6, 6)).abs().max() < 0.6


def test_random_weights_replace_a_part_of_a_copy(locator):
    before = {name: tensor.clone() for name, tensor in locator.state_dict().items()}
    head, every = (with_random_weights(locator, part).state_dict() for part in ("head", "all"))

    changed = {name for name, tensor in head.items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.age.layers.1.weight", "head.age.layers.1.bias"}
    assert not torch.equal(every["backbone.net.conv1.0.weight"], before["backbone.net.conv1.0.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in locator.state_dict().items())
