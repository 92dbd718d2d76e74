"""Checkpoint files: written atomically, valid after a move of their folder, the same for all processes of a job."""

import os
import re
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from baa.atomic_io import atomic_path
from baa.errors import InputError

TORCH_WRITE_ERROR = re.compile("PytorchStreamWriter|inline_container")
"""Matches the RuntimeErrors that torch raises for a failed write."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint to a temporary file in its folder, flush it to the disk, rename it. (Lightning copies it from /tmp.)

    Raises:
        InputError: the disk is full. The previous checkpoint is unchanged.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as stream:
            try:
                torch.save(checkpoint, stream)
            except RuntimeError as error:
                if not TORCH_WRITE_ERROR.search(str(error)):
                    raise
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"{path}: cannot write the file ({reason}); free disk space, then run the same command again"
                ) from error
            os.fsync(stream.fileno())


class FolderCheckpoint(ModelCheckpoint):
    """Keep the best score when the run's folder moves. (Lightning forgets it and overwrites the best checkpoint.)"""

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def moved(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        paths = {name: moved(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {moved(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"dirpath": self.dirpath, "best_k_models": best})


class CheckSameStart(Callback):
    """Check that all processes of a job start from the same step, as each reads the checkpoint by itself.

    Raises:
        InputError: they do not, because their folders differ.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        own = (trainer.current_epoch, trainer.global_step)
        if (first := trainer.strategy.broadcast(own)) != own:
            raise InputError(
                f"rank {trainer.global_rank}: starts from epoch {own[0]}, step {own[1]}, but rank 0 from epoch {first[0]}, "
                f"step {first[1]}; give all processes the same {trainer.default_root_dir}"
            )
