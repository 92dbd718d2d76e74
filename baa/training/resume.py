"""Where an interrupted stage goes on: its newest checkpoint that is whole."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info
from torch import Size
from torch.nn import Module

from baa.checkpoints.load import CROPS, RECORD, read_checkpoint
from baa.config.networks import SCALE
from baa.errors import InputError

CASES = "cases"
"""Part of a checkpoint's record: digest of the cases of its run."""

BEST = "best.ckpt"
TRAINING_STATE = {"state_dict", "loops", "optimizer_states", "lr_schedulers"}
NEWEST_FIRST = ("last.ckpt", BEST)


class ResumePoint(NamedTuple):
    """A stage that has begun: its checkpoint, the record in it, and how many epochs, batches and processes it had.

    shapes: of all tensors of its module, by name.
    locator_source: file and digest of the locator that cut its crops; empty for a stage without.
    """

    file: Path
    record: dict[str, Any]
    epochs: int
    batches: int
    processes: int
    shapes: Mapping[str, Size] = MappingProxyType({})
    locator_source: Mapping[str, str] = MappingProxyType({})

    def refuse_other_start(self, networks: Mapping[str, Mapping[str, Any]], locator_source: Mapping[str, str]) -> None:
        """Refuse another locator than the one whose crops the stage has seen, and networks that are not the checkpoint's.

        Args:
            networks: arguments of `Locator` and `Estimator` that the stage would have now, by name.
            locator_source: file and digest of the locator that would cut the crops now; empty for a stage without.

        Raises:
            InputError: they differ.
        """
        before, now = self.locator_source, locator_source
        if before and now and before["sha256"] != now["sha256"]:
            raise InputError(
                f"{self.file}: it was trained on crops of the locator {before['file']}, SHA-256 {before['sha256'][:12]}..., "
                f"now {now['file']} has {now['sha256'][:12]}...; restore that file, or give another name="
            )
        for name, arguments in networks.items():
            former = self.record["networks"].get(name, {})
            for key, value in arguments.items():
                if key not in SCALE and former.get(key, value) != value:
                    raise InputError(
                        f"{self.file}: its {name} has {key}={former[key]}, the model that it started from now has {value}; "
                        "restore that model, or give another name="
                    )

    def refuse_other_shapes(self, module: Module) -> None:
        """Refuse a checkpoint whose weights do not fit, as that of another version of timm or of this project.

        Raises:
            InputError: names or shapes of tensors differ.
        """
        own = {name: tensor.shape for name, tensor in module.state_dict().items()}
        if different := sorted(name for name in own.keys() | self.shapes.keys() if own.get(name) != self.shapes.get(name)):
            raise InputError(
                f"{self.file}: its networks differ ({different[0]}) from those that this version of baa and timm builds; "
                "continue with the versions that wrote it, or give another name="
            )

    def refuse_other_cases(self, cases: str) -> None:
        """Refuse other cases than those that the stage has been trained on.

        Args:
            cases: digest of the cases now; a checkpoint of an earlier version has none.

        Raises:
            InputError: they differ.
        """
        if self.record.get(CASES, cases) != cases:
            raise InputError(
                f"{self.file}: the cases differ from those of this checkpoint; restore the original data, or give another name="
            )

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
        InputError: the disk cannot be read, or the best checkpoint of an epoch before is lost.
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
        if missing := TRAINING_STATE - checkpoint.keys():
            rank_zero_info(f"skipped: {file}: it has no {min(missing)}, so no training can be resumed from it")
            continue
        loop, record = checkpoint["loops"]["fit_loop"], checkpoint[RECORD]
        epochs, batches = loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]
        if epochs and file.name != BEST:
            _refuse_lost_best(folder / BEST)
        into = 0 if batches["is_last_batch"] else batches["current"]["processed"]
        shapes = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
        return ResumePoint(file, record, epochs, into, record["processes"], shapes, checkpoint.get(CROPS, {}).get("source", {}))
    return None


def _refuse_lost_best(file: Path) -> None:
    try:
        read_checkpoint(file)
    except InputError as error:
        if isinstance(error.__cause__, OSError):
            raise
        remedy = f"restore it, or remove {file.parent} to train this stage again"
        raise InputError(f"{file}: lost or cut short, and the best epoch with it; {remedy}") from error
