"""A run's folder belongs to its settings: what may change when the run goes on, and what may not."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_only

from baa.atomic_io import BESIDE, write_whole
from baa.config.load import differences, load, to_yaml
from baa.config.schema import Config
from baa.config.validate import STAGES
from baa.errors import InputError
from baa.training.resume import NEWEST_FIRST

WHERE_IT_RUNS = ("accelerator", "devices", "num_nodes", "strategy", "timeout", "compile", "deterministic")
FREE_TO_CHANGE = (
    *(f"trainer.{name}" for name in (*WHERE_IT_RUNS, "progress", "profile")),
    *("wandb", "runs", "data.workers", "data.cache", "stages"),
)
"""Settings that a resumed run may be given anew: they change where it runs, not what it computes."""

PATIENCE_SECONDS = 30.0
"""For a job that has just been killed, and whose loader processes or whose node still hold the lock."""

FREE_UNTIL = {"estimator": ("crops", "estimator"), "joint": ("joint",)}
"""Settings that may still change while neither this stage nor a later one has begun."""


@contextmanager
def claimed(config: Config) -> Iterator[None]:
    """Keep the run's folder to this job, whose first process writes the settings there.

    Raises:
        InputError: another job trains there, a stage was trained there with other settings, or those cannot be read.
    """
    lock = FileLock(config.folder / ".lock")
    try:
        if _first():
            lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        raise InputError(f"{config.folder}: another process trains in it; wait for its end, or give another name=") from None
    try:
        if _first():
            _clear(config.folder)
        _write_settings(config)
        yield
    finally:
        lock.release()


def _first() -> bool:
    """Whether this is the first process of the job; where a script is started on each node by hand, the first node's."""
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"


def _clear(folder: Path) -> None:
    """Remove what a job that was killed had not written to its end."""
    for place in (".", *STAGES, *(f"{stage}/bundle" for stage in STAGES)):
        for left in (folder / place).glob(f".*{BESIDE}.*"):
            left.unlink()


def _write_settings(config: Config) -> None:
    file = config.folder / "config.yaml"
    begun = [stage for stage in STAGES if any((config.folder / stage / name).exists() for name in NEWEST_FIRST)]
    if begun and file.exists():
        unused = [keys for stage, keys in FREE_UNTIL.items() if not set(STAGES[STAGES.index(stage) :]) & set(begun)]
        free = (*FREE_TO_CHANGE, *itertools.chain(*unused))
        former = load(file, base={})
        changed = {
            key: values
            for key, values in differences(former, config).items()
            if not any(key == other or key.startswith(f"{other}.") for other in free)
        }
        if changed:
            key, (old, new) = next(iter(changed.items()))
            raise InputError(
                f"{config.folder} was begun with other settings: {key} was {old} and is {new}"
                + (f" ({len(changed)} differ)" if len(changed) > 1 else "")
                + "; give another name=, or remove the folder"
            )
    rank_zero_only(write_whole)(file, to_yaml(config))
