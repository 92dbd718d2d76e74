"""What happens around the epochs: the run's own record of its curve, and of itself in each checkpoint."""

import math
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.callbacks import Callback

from baa.atomic_io import write_whole
from baa.checkpoints.provenance import Lineage
from baa.errors import InputError


class LearningCurve(Callback):
    """One row an epoch in `metrics.csv`.

    The rows live in the checkpoint: a resumed run goes on from the epoch it resumes at, with neither gap nor repetition.
    (Lightning's CSVLogger deletes the file of the run that it resumes.)

    Raises:
        InputError: at the end of an epoch whose loss or validation MAE is no number; that epoch is not kept.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        if not all(math.isfinite(values[name]) for name in ("train/loss", "val/mae")):
            raise InputError(
                f"the network answers with no numbers after epoch {trainer.current_epoch + 1}; "
                "give a lower fit.lr, or a fit.clip, and another name="
            )
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate, **values})
        if trainer.is_global_zero:
            write_whole(self.file, pd.DataFrame(self.rows).to_csv(index=False))

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class RunConfig(Callback):
    """The run's stage and settings inside each checkpoint, so that a checkpoint suffices.

    And its lineage, so that an evaluation knows what it has not seen.
    """

    def __init__(self, stage: str, settings: dict[str, Any], origin: Lineage) -> None:
        kept = {"seen": sorted(origin.seen), "licences": list(origin.licences)}
        self.record = {"stage": stage, "settings": settings, **kept}

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["baa"] = self.record | {"processes": trainer.world_size}
