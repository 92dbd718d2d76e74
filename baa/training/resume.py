"""What a run goes on from: checkpoints that are written whole or not at all, and the newest of them that is whole."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from baa.atomic_io import replacing
from baa.checkpoints.load import read_checkpoint
from baa.errors import InputError

TORCH_WRITES = re.compile("PytorchStreamWriter|inline_container")
"""What torch's errors of writing name."""

NEWEST_FIRST = ("last.ckpt", "best.ckpt")


class Begun(NamedTuple):
    """A stage that was begun: its checkpoint's file, the settings it was written under, and what was done by then."""

    file: Path
    settings: dict[str, Any]
    epochs: int
    batches: int
    processes: int

    def refuse_others(self, processes: int) -> None:
        """Refuse to go on with another number of processes: order, steps and rates would be those of neither run.

        Raises:
            InputError: there are more or fewer than there were.
        """
        if self.processes != processes:
            raise InputError(
                f"{self.file} was written by a job of {self.processes} processes, this one has {processes}; "
                "start as many, or give another name="
            )


class WholeFiles(TorchCheckpointIO):
    """Checkpoints written beside, flushed to the disk, and renamed. (Lightning copies them from the machine's /tmp.)

    Raises:
        InputError: the disk takes no more; the checkpoint before is as it was.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with replacing(Path(path)) as fresh, fresh.open("wb") as written:
            try:
                torch.save(checkpoint, written)
            except RuntimeError as error:
                if not TORCH_WRITES.search(str(error)):
                    raise
                reason = str(error).splitlines()[0]
                raise InputError(f"{path} cannot be written: {reason}; make room, and the same command goes on") from error
            os.fsync(written.fileno())


class FolderCheckpoint(ModelCheckpoint):
    """Knows the best epoch again though the run's folder was moved. (Lightning forgets it then, and overwrites it.)"""

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"dirpath": self.dirpath, "best_k_models": best})


def amend(file: Path, **found: Any) -> None:
    """Add to the record in a checkpoint what was found out about it once it was whole."""
    checkpoint = read_checkpoint(file)
    checkpoint["baa"] |= found
    WholeFiles().save_checkpoint(checkpoint, file)


def newest_whole(folder: Path) -> Begun | None:
    """Where a stage can go on: its last checkpoint or, if a dying machine left that cut short, its best one.

    Args:
        folder: of the stage.

    Returns:
        None where there is no checkpoint, or none that is whole; those are named in a line each.

    Raises:
        InputError: the disk does not give one away.
    """
    for file in (folder / name for name in NEWEST_FIRST):
        if not file.exists():
            continue
        try:
            checkpoint = read_checkpoint(file)
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise  # it may well be whole
            rank_zero_info(f"passed over: {error}")
            continue
        loop, record = checkpoint["loops"]["fit_loop"], checkpoint["baa"]
        epochs, batches = loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]
        into = 0 if batches["is_last_batch"] else batches["current"]["processed"]
        return Begun(file, record["settings"], epochs, into, record["processes"])
    return None


class SameStart(Callback):
    """All processes of a job go on from the same place, though each has read it for itself.

    Raises:
        InputError: they do not: their folders differ.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        own = (trainer.current_epoch, trainer.global_step)
        if (first := trainer.strategy.broadcast(own)) != own:
            raise InputError(
                f"process {trainer.global_rank} goes on from epoch {own[0]}, step {own[1]}, the first one from epoch "
                f"{first[0]}, step {first[1]}: they do not see the same {trainer.default_root_dir}"
            )
