"""What happens around the epochs: the run's own record of its curve, and of itself in each checkpoint."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.callbacks import Callback

from baa.errors import InputError
from baa.training.lineage import Lineage


class LearningCurve(Callback):
    """One row an epoch in `metrics.csv`.

    The rows live in the checkpoint: a resumed run goes on from the epoch it resumes at, with neither gap nor repetition.
    (Lightning's CSVLogger deletes the file of the run that it resumes.)
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        rate = trainer.optimizers[0].param_groups[0]["lr"]
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


def write_whole(file: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one and never half of one.

    Raises:
        InputError: the disk is full, or the folder not ours.
    """
    fresh = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_bytes(content.encode() if isinstance(content, str) else content)
        fresh.replace(file)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from error


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no file."""
    return json.loads(file.read_text()) if file.exists() else {}
