"""An epoch of training that can go on in its middle."""

import signal
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from baa.data.batch import Sample, whole_batch

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What a scheduler, an agent or a person stops a job with; USR1 is what Slurm is told to send before the time limit."""


def ignore_signals(worker: int) -> None:
    """Of a loader's process: whoever stops a run may signal all its processes, and it needs their batches to the end."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


class RestOfEpoch(Sampler[int]):
    """What an order leaves of its epoch.

    Args:
        order: a matter of the epoch alone, so that a resumed run has the unbroken one's.
        done: how many cases of it are done, asked whenever the order is begun.
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
    """Draws nothing before its first batch is asked for.

    Lightning makes the iterator of a resumed run's first epoch before it has told the sampler which epoch that is, and workers
    would begin at once. (Its protocol for loaders with a state does not help where a schedule asks how many steps there will
    be: the loader is then made before the state is read.)
    """

    def __init__(self, dataset: Dataset[Sample], **settings: Any) -> None:
        super().__init__(dataset, collate_fn=whole_batch, **settings)

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        yield from super().__iter__()
