"""Rare ages more often: a training set holds few toddlers and few adults-to-be."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

MONTHS_A_BAND = 12


class BalancedSampler(DistributedSampler[Any]):
    """As many cases an epoch as there are, drawn with replacement, by (seed, epoch) alone.

    Args:
        dataset: N cases.
        months: their ages.
        balance: 0 draws each case as often as any other, 1 each year of age.
        num_replicas, rank, seed: as of `DistributedSampler`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        months: Float[Tensor, " case"],
        *,
        balance: float,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed)
        band = (months / MONTHS_A_BAND).long()
        self.odds = band.bincount()[band].float().pow(-balance)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = torch.multinomial(self.odds, self.total_size, replacement=True, generator=generator)
        return iter(drawn[self.rank :: self.num_replicas].tolist())
