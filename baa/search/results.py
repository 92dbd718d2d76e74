"""What a sweep has found: its table, and pictures of it."""

from pathlib import Path

import matplotlib.pyplot as plt
import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import TrialState
from optuna.visualization import matplotlib as pictures

from baa.atomic_io import write_whole
from baa.plots.figures import save

RUN = "run"
"""User attribute of a trial that has been started: the id of its W&B run."""


def results_table(study: optuna.Study, metric: str) -> pd.DataFrame:
    """A row a trial, best first: number, state, metric, what was searched, id of the W&B run."""
    rows = [
        {"trial": trial.number, "state": trial.state.name.lower(), metric: trial.value}
        | trial.params
        | {RUN: trial.user_attrs[RUN]}
        for trial in study.get_trials(deepcopy=False)
        if RUN in trial.user_attrs
    ]
    small = study.direction == StudyDirection.MINIMIZE
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=["trial", metric])
    return table.sort_values(metric, ascending=small, ignore_index=True)


def write_results(study: optuna.Study, metric: str, folder: Path) -> None:
    """Write `trials.csv`, and where trials differ `parallel.png` and `importance.png`."""
    write_whole(folder / "trials.csv", results_table(study, metric).to_csv(index=False))
    if len({trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) > 1:
        pictures.plot_parallel_coordinate(study, target_name=metric)
        save(plt.gcf(), folder / "parallel.png")
        pictures.plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        save(plt.gcf(), folder / "importance.png")
