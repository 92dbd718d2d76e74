"""A run's folder belongs to its settings: which of them may change when the run is continued."""

import itertools
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.atomic_io import TEMPORARY, read_json, write_atomic
from baa.config.load import differences, load, to_yaml
from baa.config.schema import STAGES, Config
from baa.errors import InputError
from baa.training.resume import NEWEST_FIRST

METRICS = "metrics.json"

WHERE_IT_RUNS = (
    *("accelerator", "devices", "num_nodes", "timeout", "signal_every"),
    *("compile", "deterministic", "progress", "profile"),
)
FREE_TO_CHANGE = (*(f"trainer.{name}" for name in WHERE_IT_RUNS), "wandb", "runs", "data.workers", "data.cache", "stages")
"""Settings that a continued run may change: they change where it runs, not what it computes."""

FREE_UNTIL = {"estimator": ("crops", "estimator"), "joint": ("joint",)}
"""Settings that may change as long as neither this stage nor a later one has begun."""

PATIENCE_SECONDS = 30.0
"""How long to wait for the lock of a job that has just been killed."""


@contextmanager
def locked_run_folder(config: Config) -> Iterator[str | None]:
    """Lock the run's folder for this job, whose first process writes the settings there.

    Yields:
        The stage that trains longer than before; None if none does. Another process of the job may read metrics.json before
        the first one has removed the stage's result from it.

    Raises:
        InputError: another job trains there, or a stage was trained there with other settings.
    """
    lock = FileLock(config.folder / ".lock")
    try:
        if _is_first_process():
            lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        raise InputError(f"{config.folder}: another process trains in it; wait for it, or give another name=") from None
    try:
        if _is_first_process():
            _remove_unfinished_files(config.folder)
        longer = _check_settings(config)
        rank_zero_only(write_atomic)(config.folder / "config.yaml", to_yaml(config))
        yield longer
    finally:
        lock.release()


def keep_precision(config: Config) -> Config:
    """Take `auto` precisions from the run that is continued, so that it computes as it began."""
    if (former := _former_settings(config.folder)) is None:
        return config
    trainer, crops = config.trainer, config.crops
    if trainer.precision == "auto":
        trainer = replace(trainer, precision=former.trainer.precision)
    if crops.precision == "auto":
        crops = replace(crops, precision=former.crops.precision)
    return replace(config, trainer=trainer, crops=crops)


def begun_stages(folder: Path) -> list[str]:
    """The stages that have been trained in a run's folder, at least in part."""
    return [stage for stage in STAGES if any((folder / stage / name).exists() for name in NEWEST_FIRST)]


def _former_settings(folder: Path) -> Config | None:
    """The settings with which a run was begun; None if no stage has begun.

    Raises:
        InputError: the file is empty or cut short: the last setting of the schema is missing, or the end of the line.
    """
    file = folder / "config.yaml"
    if not (file.exists() and begun_stages(folder)):
        return None
    remedy = "restore it, or remove it to continue with the settings of this command"
    if not re.search(rf"^{fields(Config)[-1].name}:\n(  .+\n)+\Z", file.read_text(errors="replace"), re.MULTILINE):
        raise InputError(f"{file}: empty or cut short; {remedy}")
    try:
        return load([file], base={})
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error


def _is_first_process() -> bool:
    """Return whether this is the first process of the job, also where a script is started on each node by hand."""
    return getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"


def _remove_unfinished_files(folder: Path) -> None:
    for place in (".", *STAGES, *(f"{stage}/bundle" for stage in STAGES)):
        for left in (folder / place).glob(f".*{TEMPORARY}.*"):
            left.unlink()


def _check_settings(config: Config) -> str | None:
    """Refuse settings that would change what has been trained; reopen and return a stage that is to train longer."""
    begun, former = begun_stages(config.folder), _former_settings(config.folder)
    if former is None:
        return None
    unused = [keys for stage, keys in FREE_UNTIL.items() if not set(STAGES[STAGES.index(stage) :]) & set(begun)]
    free = (*FREE_TO_CHANGE, *itertools.chain(*unused))
    changed = {
        key: values
        for key, values in differences(former, config).items()
        if not any(key == other or key.startswith(f"{other}.") for other in free)
    }
    stage = begun[-1]
    if changed.keys() == {f"{stage}.fit.epochs"}:
        _train_longer(stage, config, *changed[f"{stage}.fit.epochs"])
        return stage
    if changed:
        key, (old, new) = next(iter(changed.items()))
        others = f" ({len(changed)} settings differ)" if len(changed) > 1 else ""
        raise InputError(
            f"{config.folder}: the run was started with {key}={old}, now it is {new}{others}; "
            "give another name=, or remove the folder"
        )
    return None


def _train_longer(stage: str, config: Config, epochs: int, more: int) -> None:
    fit = getattr(config, stage).fit
    place = f"{config.folder}: {stage}.fit.epochs"
    if more < epochs:
        raise InputError(f"{place} was {epochs} and can only increase, not to {more}; give another name=")
    if fit.schedule != "constant" or fit.warmup or fit.progressive_resize_from < 1:
        raise InputError(
            f"{place} cannot increase from {epochs} to {more}: learning rate or image size follow a schedule over "
            f"{epochs} epochs; finish the run, then start a new one from it: "
            f"name=NEW stages=[{stage}] weights={config.folder}/{stage}/bundle"
        )
    rank_zero_info(f"{stage}: trains longer, {more} epochs instead of {epochs}")
    results = read_json(config.folder / METRICS)
    if results.pop(stage, None) is not None:
        rank_zero_only(write_atomic)(config.folder / METRICS, json.dumps(results, indent=2))
