"""The order of training cases: balanced by age, and resumable in the middle of an epoch."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from baa.data.batch import Sample, whole_batch

MONTHS_PER_BAND = 12


class BalancedSampler(DistributedSampler[Any]):
    """Draw rare ages more often: as many cases per epoch as there are, with replacement, by (seed, epoch) alone.

    Args:
        dataset: N cases.
        months: their ages [N].
        balance: 0 draws each case equally often, 1 each year of age.
        num_replicas, rank, seed: of `DistributedSampler`.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> months = torch.tensor([100.0] * 99 + [12.0])
        >>> drawn = list(BalancedSampler(TensorDataset(months), months, balance=1.0))
        >>> len(drawn), drawn.count(99) > 30
        (100, True)
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
        band = (months / MONTHS_PER_BAND).long()
        self.odds = band.bincount()[band].float().pow(-balance)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        drawn = torch.multinomial(self.odds, self.total_size, replacement=True, generator=generator)
        return iter(drawn[self.rank :: self.num_replicas].tolist())


class RestOfEpoch(Sampler[int]):
    """The rest of an epoch that has been interrupted.

    Args:
        order: depends on the epoch alone, so that a resumed run has the order of the unbroken one.
        done: returns how many of its cases are done; called at the start of each iteration.

    Example:
        >>> order = DistributedSampler(range(5), num_replicas=1, rank=0, shuffle=False)
        >>> list(RestOfEpoch(order, done=lambda: 3))
        [3, 4]
    """

    def __init__(self, order: DistributedSampler[Any], done: Callable[[], int]) -> None:
        self.order = order
        self.done = done

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.order), self.done(), None)

    def __len__(self) -> int:
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)


class LateLoader(DataLoader[Sample]):
    """A loader that draws nothing before its first batch is requested.

    Lightning makes the iterator of a resumed run's first epoch before it sets the sampler's epoch, and workers would start at
    once. (Its protocol for stateful loaders does not help a schedule that needs the number of steps: the loader is then made
    before the state is read.)
    """

    def __init__(self, dataset: Dataset[Sample], **settings: Any) -> None:
        super().__init__(dataset, collate_fn=whole_batch, **settings)

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        yield from super().__iter__()
