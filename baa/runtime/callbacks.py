"""Callbacks that keep a run's learning curve and its record."""

import math
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.callbacks import Callback

from baa.atomic_io import write_atomic
from baa.errors import InputError


class LearningCurve(Callback):
    """Write one row per epoch to a CSV file.

    The rows are part of the checkpoint, so the file of a resumed run has neither gaps nor repetitions, and is whole again if
    it was cut short. (Lightning's CSVLogger deletes the file of the run that it resumes.)

    Args:
        file: to write.
        fit: name of the stage's settings, such as `locator.fit`.

    Raises:
        InputError: the training loss or the validation MAE of an epoch is not finite. That epoch is not kept.
    """

    def __init__(self, file: Path, fit: str) -> None:
        self.file = file
        self.fit = fit
        self.rows: list[dict[str, float]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.rows:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        learning_rate = trainer.optimizers[0].param_groups[0]["lr"]
        if not all(math.isfinite(values[name]) for name in ("train/loss", "val/mae")):
            raise InputError(
                f"training: the loss or the validation MAE is not finite after epoch {trainer.current_epoch + 1}; "
                f"lower {self.fit}.lr or set {self.fit}.gradient_clip_val, and give another name="
            )
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": learning_rate, **values})
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            write_atomic(self.file, pd.DataFrame(self.rows).to_csv(index=False))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class CheckpointRecord(Callback):
    """Put the run's record and its world size into each checkpoint, so that the checkpoint alone describes the run.

    Args:
        record: a plain dict, stored under the key `baa`.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["baa"] = self.record | {"processes": trainer.world_size}
