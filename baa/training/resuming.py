"""What a run goes on from: checkpoints that are written whole or not at all, and the newest of them that is whole."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from baa.errors import InputError
from baa.training.checkpoints import read_checkpoint

NEWEST_FIRST = ("last.ckpt", "best.ckpt")


class Begun(NamedTuple):
    """A stage that was begun: its checkpoint's file, the settings it was written under, and what was done by then."""

    file: Path
    settings: dict[str, Any]
    epochs: int
    batches: int


class WholeFiles(TorchCheckpointIO):
    """Checkpoints written beside, flushed to the disk, and renamed. (Lightning copies them from the machine's /tmp.)

    Raises:
        InputError: the disk takes no more; the checkpoint before is as it was.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        file = Path(path)
        beside = file.with_name(f".{file.name}.new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as written:
                torch.save(checkpoint, written)
                os.fsync(written.fileno())
            beside.replace(file)
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter
            beside.unlink(missing_ok=True)
            reason = str(error).splitlines()[0]
            raise InputError(f"{file} cannot be written: {reason}; make room, and the same command goes on") from error


def newest_whole(folder: Path) -> Begun | None:
    """Where a stage can go on: its last checkpoint or, if a dying machine left that cut short, its best one.

    Args:
        folder: of the stage.

    Returns:
        None where there is no checkpoint, or none that can be read; those are named in a line each.
    """
    for file in (folder / name for name in NEWEST_FIRST):
        if not file.exists():
            continue
        try:
            checkpoint = read_checkpoint(file)
        except InputError as error:
            rank_zero_info(f"passed over: {error}")
            continue
        loop = checkpoint["loops"]["fit_loop"]
        epochs, batches = loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]
        return Begun(
            file, checkpoint["baa"]["settings"], epochs, 0 if batches["is_last_batch"] else batches["current"]["processed"]
        )
    return None
