"""Finished runs as they lie in their folders: settings, metrics, predictions, learning curve, cost."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from lightning.pytorch.utilities import rank_zero_info

from baa.atomic_io import read_json
from baa.config.load import load
from baa.config.schema import STAGES
from baa.config.validate import walk
from baa.errors import InputError
from baa.metrics.comparison import read_predictions
from baa.runtime.cost import COST

CONFIG, METRICS, TRIALS = "config.yaml", "metrics.json", "trials.csv"
NO_RESULT = ("name", "runs", "wandb.", "data.cache", "data.workers", "trainer.progress", "trainer.timeout")
"""Settings, or beginnings of settings, that do not change what a run learns."""


class Run(NamedTuple):
    """A finished run.

    name: its folder, without what all compared runs have in common. settings: by dotted key. stage: the last one. metrics: of
    the stage. tested, validated: predictions by id; None without a table. curve: one row per epoch. core_hours, hours: of all
    stages; NaN if a stage has no record.
    """

    name: str
    folder: Path
    settings: dict[str, Any]
    stage: str
    metrics: dict[str, Any]
    tested: pd.DataFrame | None
    validated: pd.DataFrame | None
    curve: pd.DataFrame | None
    core_hours: float
    hours: float


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """Read runs, all runs in folders, and all trials of sweeps, in this order, each once.

    Raises:
        InputError: a path holds no finished run, or a file of a run cannot be read.
    """
    folders: list[Path] = []
    for path in paths:
        found = list(_folders(path))
        finished = [folder for folder in found if (folder / METRICS).is_file() and read_json(folder / METRICS)]
        if left := len(found) - len(finished):
            rank_zero_info(f"{path}: {left} runs are not finished and left out")
        if not finished:
            raise InputError(f"{path}: no finished run; give runs/NAME, a folder of runs, or the folder of a sweep")
        folders += finished
    folders = list(dict.fromkeys(folder.resolve() for folder in folders))
    above = _common(folders)
    return [_read(folder, folder.relative_to(above).as_posix()) for folder in folders]


def _folders(path: Path) -> Iterator[Path]:
    if (path / CONFIG).is_file():
        yield path
    elif (path / TRIALS).is_file():
        for trial in pd.read_csv(path / TRIALS, dtype={"run": str})["run"]:
            yield from (file.parent for file in path.parent.glob(f"*/{trial}/{CONFIG}"))
    else:
        yield from sorted(file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/{CONFIG}"))


def _common(folders: Sequence[Path]) -> Path:
    above = folders[0].parent
    while not all(folder.is_relative_to(above) for folder in folders):
        above = above.parent
    return above


def _read(folder: Path, name: str) -> Run:
    results = read_json(folder / METRICS)
    stage = [stage for stage in STAGES if stage in results][-1]
    costs = [read_json(folder / one / COST) for one in results]
    core_hours, hours = (sum(cost.get(what, float("nan")) for cost in costs) for what in ("core_hours", "hours"))
    curve = folder / stage / "metrics.csv"
    return Run(
        name=name,
        folder=folder,
        settings={key: value for key, _, value in walk(load([folder / CONFIG], base={}))},
        stage=stage,
        metrics=results[stage],
        tested=_predictions(folder / stage / "predictions.csv"),
        validated=_predictions(folder / stage / "validation.csv"),
        curve=pd.read_csv(curve) if curve.is_file() else None,
        core_hours=core_hours,
        hours=hours,
    )


def _predictions(file: Path) -> pd.DataFrame | None:
    return read_predictions(file) if file.is_file() else None


def differing(runs: Sequence[Run]) -> list[str]:
    """The settings in which runs differ, apart from those that do not change what a run learns."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if not key.startswith(NO_RESULT) and len({repr(run.settings.get(key)) for run in runs}) > 1]


def folds_of(runs: Sequence[Run]) -> dict[int, Run]:
    """The runs of one cross-validation by fold; empty if they are not each fold of one, once. Logs which folds are missing."""
    folds = {run.settings["data.split.fold"]: run for run in runs if run.validated is not None}
    counts = {(run.settings["data.split.folds"], run.settings["data.split.seed"]) for run in runs}
    [(count, _), *others] = counts
    if not count or others or len(folds) < len(runs):
        return {}
    if missing := sorted(set(range(count)) - set(folds)):
        rank_zero_info(f"no out-of-fold predictions: of {count} folds, {', '.join(map(str, missing))} have no finished run")
        return {}
    return dict(sorted(folds.items()))
