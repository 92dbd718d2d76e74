"""A run that is asked to stop keeps what it has done, to the batch."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What a scheduler, an agent or a shell stops a job with; USR1 is what Slurm is told to send before the time limit."""


class Preempted(SystemExit):
    """The run was stopped from outside, and its checkpoint is written.

    Args:
        signum: of the signal.
        first: whether this process is the first of its job, whose exit code tells of the signal, as a shell does. The others'
            do not: Lightning kills everything where a process that it has started fails.
    """

    def __init__(self, signum: int, *, first: bool) -> None:
        super().__init__(128 + signum if first else 0)
        self.reason = f"stopped by {signal.Signals(signum).name}"


class Preemption(Callback):
    """After a signal: a checkpoint in the middle of the epoch, written by all processes after the same step; then `Preempted`.

    In Lightning's place, which saves within the handler itself (on Slurm) or nothing at all. A signal that comes after the
    last batch of an epoch waits until that epoch has been judged.

    Args:
        file: where the checkpoint goes.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.signum: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        def note(signum: int, frame: FrameType | None) -> None:
            if self.signum is None and trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signum)  # passed on to the processes that this one has started
            self.signum = signum

        for signum in SIGNALS:  # Lightning gives back the former handlers as its fit ends
            signal.signal(signum, note)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if trainer.strategy.reduce_boolean_decision(self.signum is not None, all=False):
            trainer.save_checkpoint(self.file)
            raise Preempted(self.signum or signal.SIGTERM, first=trainer.is_global_zero)
