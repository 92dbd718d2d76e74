"""How often an age is drawn, in one process and in two."""

import pytest
import torch
from torch.utils.data import TensorDataset

from baa.data.sampling import BalancedSampler

AGES = torch.tensor([24.0] * 10 + [150.0] * 990)  # ten of two years, 990 of twelve


def drawn_young(balance):
    sampler = BalancedSampler(TensorDataset(AGES), AGES, balance=balance)
    young = 0
    for epoch in range(20):
        sampler.set_epoch(epoch)
        young += sum(case < 10 for case in sampler)
    return young / 20_000


@pytest.mark.parametrize(("balance", "share"), [(0, 0.01), (0.5, 10**0.5 / (10**0.5 + 990**0.5)), (1, 0.5)])
def test_rare_ages_are_drawn_as_often_as_the_balance_sets(balance, share):
    assert drawn_young(balance) == pytest.approx(share, abs=0.01)


def test_two_processes_share_the_draw_of_an_epoch():
    one = BalancedSampler(TensorDataset(AGES), AGES, balance=1, seed=3)
    two = [BalancedSampler(TensorDataset(AGES), AGES, balance=1, seed=3, num_replicas=2, rank=rank) for rank in (0, 1)]
    first = list(one)
    halves = [list(sampler) for sampler in two]

    assert first[0::2] == halves[0]
    assert first[1::2] == halves[1]
    assert list(one) == first
    one.set_epoch(1)
    assert list(one) != first
