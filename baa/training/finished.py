"""The files of a finished stage: a later start checks that they are still as the stage wrote them."""

import json
from pathlib import Path

from baa.atomic_io import read_json, write_atomic
from baa.checkpoints.load import digest
from baa.errors import InputError

FINISHED = "finished.json"
"""SHA-256 of each file, in the stage's folder."""

FILES = ("metrics.csv", "validation.csv", "predictions.csv", "best.ckpt", "bundle/card.json", "bundle/weights.safetensors")


def record_files(folder: Path) -> None:
    """Write the digests of a stage's files."""
    write_atomic(folder / FINISHED, json.dumps(_digests(folder), indent=2))


def is_finished(folder: Path, metrics: Path) -> bool:
    """Return whether a stage has finished and its folder is still there. A file that was removed is not missed.

    Args:
        folder: of the stage.
        metrics: the run's metrics.json.

    Raises:
        InputError: a file is not as the stage wrote it.
    """
    if folder.name not in read_json(metrics) or not folder.exists():
        return False
    written = read_json(folder / FINISHED)
    for name, found in _digests(folder).items():
        if written.get(name, found) != found:
            raise InputError(
                f"{folder / name}: cut short or changed since the stage finished; "
                f"restore it, or remove {folder} to train this stage again"
            )
    return True


def _digests(folder: Path) -> dict[str, str]:
    return {name: digest(folder / name) for name in FILES if (folder / name).exists()}
