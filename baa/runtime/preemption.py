"""A run that is asked to stop keeps what it has done, to the batch."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.data.sampling import SIGNALS


class Preempted(SystemExit):
    """The run was stopped from outside; whatever it had to keep is written.

    The exit code of a job's first process tells of the signal, as a shell does. The others' do not: Lightning kills everything
    where a process that it has started fails.

    Args:
        signum: of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum if getattr(rank_zero_only, "rank", 0) == 0 else 0)
        self.signum = signum
        self.reason = f"stopped by {signal.Signals(signum).name}"


class Stop:
    """Whether the run was asked to stop: raises `Preempted` at once or, while it is `deferred`, only takes note.

    A second SIGINT does not wait.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deferred = False
        self.process = os.getpid()

    def listen(self) -> None:
        """Take the signals over, from Lightning too: its handlers save in the middle of a step, or speak to other processes."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._hear)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a child that was forked, such as one of a pool, which is ended so
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        impatient = signum == self.signum == signal.SIGINT
        self.signum = signum
        if impatient or not self.deferred:
            raise Preempted(signum)


@contextmanager
def listening() -> Iterator[Stop]:
    """A `Stop` that hears the signals; the former handlers are back at the end."""
    former = {signum: signal.getsignal(signum) for signum in SIGNALS}
    stop = Stop()
    stop.listen()
    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            for signum, handler in former.items():
                signal.signal(signum, handler)


@contextmanager
def stoppable(then: str, *, lone: bool = False) -> Iterator[Stop]:
    """`listening`, where whoever stops the work is told how that leaves it.

    Args:
        then: what is told.
        lone: whether each process works by itself: each one's exit code then tells of the signal.
    """
    try:
        with listening() as stop:
            yield stop
    except Preempted as stopped:
        if lone:
            stopped.code = 128 + stopped.signum
        rank_zero_info(f"{stopped.reason}; {then}")
        raise


class StopAtOnce(Callback):
    """Where nothing is trained a signal ends the process at once, with its own exit code. (Lightning ends with 1, or not yet.)

    Processes that Lightning has started end too.

    Args:
        stop: of the command.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.stop.listen()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.stop.listen()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Preempted) and not trainer.training and trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGTERM)


class Preemption(Callback):
    """While a stage is trained, a signal is answered by all processes after the same step.

    They write a checkpoint in the middle of the epoch, then raise `Preempted`. After the last batch of an epoch there is no
    middle any more: the epoch is judged, its own checkpoint suffices, and the next one is not begun.

    Args:
        stop: of the run.
        file: where the checkpoint goes.
    """

    def __init__(self, stop: Stop, file: Path) -> None:
        self.stop = stop
        self.file = file

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.stop.deferred = True
        self.stop.listen()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch:
            self._leave(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._leave(trainer, keep=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave(trainer)
        self.stop.deferred = False

    def _leave(self, trainer: L.Trainer, *, keep: bool = False) -> None:
        if trainer.strategy.reduce_boolean_decision(self.stop.signum is not None, all=False):
            if keep:
                trainer.save_checkpoint(self.file)
            raise Preempted(self.stop.signum or signal.SIGTERM)
