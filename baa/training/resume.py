"""Where an interrupted stage goes on: its newest checkpoint that is whole."""

from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info

from baa.checkpoints.load import RECORD, read_checkpoint
from baa.errors import InputError

NEWEST_FIRST = ("last.ckpt", "best.ckpt")


class ResumePoint(NamedTuple):
    """A stage that has begun: its checkpoint, the record in it, and how many epochs, batches and processes it had."""

    file: Path
    record: dict[str, Any]
    epochs: int
    batches: int
    processes: int

    def refuse_other_world_size(self, processes: int) -> None:
        """Refuse another number of processes: order, steps and learning rates would be those of neither run.

        Raises:
            InputError: there are more or fewer processes than before.
        """
        if self.processes != processes:
            raise InputError(
                f"{self.file}: it was written by {self.processes} processes, this job has {processes}; "
                "start as many, or give another name="
            )


def find_resume_point(folder: Path) -> ResumePoint | None:
    """Find where a stage goes on: its last checkpoint or, if a crash cut that short, its best one.

    Args:
        folder: of the stage.

    Returns:
        None if there is no whole checkpoint. Broken ones are logged.

    Raises:
        InputError: the disk cannot be read.
    """
    for file in (folder / name for name in NEWEST_FIRST):
        if not file.exists():
            continue
        try:
            checkpoint = read_checkpoint(file)
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise  # it may well be whole
            rank_zero_info(f"skipped: {error}")
            continue
        loop, record = checkpoint["loops"]["fit_loop"], checkpoint[RECORD]
        epochs, batches = loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]
        into = 0 if batches["is_last_batch"] else batches["current"]["processed"]
        return ResumePoint(file, record, epochs, into, record["processes"])
    return None
