"""Signals: a run that is stopped keeps its progress up to the last optimizer step."""

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

from baa.data.workers import SIGNALS

PATIENCE_SECONDS = 60
"""Time without the end of a batch after which a deferred signal ends the run, with the progress of its last checkpoint."""


class Preempted(SystemExit):
    """A signal stopped the run; all output that it had to keep is written.

    The exit code of rank 0 is 128 plus the signal's number, as in a shell. The other ranks exit with 0, because Lightning
    kills all processes when one that it started fails.

    Args:
        signum: number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum if getattr(rank_zero_only, "rank", 0) == 0 else 0)
        self.signum = signum
        self.reason = "interrupted" if signum == signal.SIGINT else f"stopped by {signal.Signals(signum).name}"


class SignalHandler:
    """Raise `Preempted` on a signal or, while `deferred`, only record the signal in `signum`.

    A second SIGINT is never deferred, nor is a signal for longer than `PATIENCE_SECONDS` without a call of `batch_ended`:
    a loader may have stalled.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deferred = False
        self.process = os.getpid()

    def install(self) -> None:
        """Replace the handlers of `SIGNALS`, also Lightning's: they save in mid-step or message other processes."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._on_signal)
            signal.signal(signal.SIGALRM, self._on_alarm)

    def batch_ended(self) -> None:
        """Defer a signal further."""
        if self.signum is not None and signal.getsignal(signal.SIGALRM) == self._on_alarm:
            signal.alarm(PATIENCE_SECONDS)

    def _on_alarm(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and self.deferred:
            self.deferred = False
            raise Preempted(self.signum)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a forked child, for example of a pool, which ends its children by a signal
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        second_interrupt = signum == self.signum == signal.SIGINT
        self.signum = signum
        if second_interrupt or not self.deferred:
            raise Preempted(signum)
        self.batch_ended()


@contextmanager
def handle_signals() -> Iterator[SignalHandler]:
    """Install a `SignalHandler`; restore the former handlers at the end."""
    former = {signum: signal.getsignal(signum) for signum in (*SIGNALS, signal.SIGALRM)}
    handler = SignalHandler()
    handler.install()
    try:
        yield handler
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.alarm(0)
            for signum, previous in former.items():
                signal.signal(signum, previous)


@contextmanager
def stoppable_work(consequence: str, *, independent: bool = False) -> Iterator[SignalHandler]:
    """`handle_signals` that also logs what a stop means for the work.

    Args:
        consequence: the text to log when a signal stops the work.
        independent: whether each process works by itself; each one's exit code is then 128 plus the signal's number.
    """
    try:
        with handle_signals() as handler:
            yield handler
    except Preempted as preempted:
        if independent:
            preempted.code = 128 + preempted.signum
        rank_zero_info(f"{preempted.reason}; {consequence}")
        raise


class ExitOnSignal(Callback):
    """End the process at once, with the signal's exit code, while nothing is trained. (Lightning ends with 1, or later.)

    Processes that Lightning started end too.

    Args:
        handler: the command's handler.
    """

    def __init__(self, handler: SignalHandler) -> None:
        self.handler = handler

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.handler.install()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.handler.install()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        alone = not (trainer.training and self.handler.deferred)  # the others have not decided to stop
        if isinstance(exception, Preempted) and alone and trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGTERM)


class Preemption(Callback):
    """Stop all processes of a training stage after the same step when one of them receives a signal.

    They write a checkpoint in the middle of the epoch, then raise `Preempted`. After the last batch of an epoch the stop waits
    for validation and the epoch's own checkpoint; the next epoch does not start.

    Args:
        handler: the run's handler.
        file: where the checkpoint goes.
        every: optimizer steps after which several processes ask each other; one process asks itself after each.
    """

    def __init__(self, handler: SignalHandler, file: Path, every: int) -> None:
        self.handler = handler
        self.file = file
        self.every = every

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.handler.deferred = True
        self.handler.install()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch:
            self._stop_if_signaled(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.handler.batch_ended()
        asks = trainer.world_size == 1 or trainer.global_step % self.every == 0
        if asks and not trainer.is_last_batch and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._stop_if_signaled(trainer, save=True)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.handler.batch_ended()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_if_signaled(trainer)
        self.handler.deferred = False

    def _stop_if_signaled(self, trainer: L.Trainer, *, save: bool = False) -> None:
        if trainer.strategy.reduce_boolean_decision(self.handler.signum is not None, all=False):
            if save:
                trainer.save_checkpoint(self.file)
            raise Preempted(self.handler.signum or signal.SIGTERM)
