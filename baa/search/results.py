"""The results of a sweep: a table and figures."""

from pathlib import Path

import matplotlib.pyplot as plt
import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import TrialState
from optuna.visualization import matplotlib as figures

from baa.atomic_io import write_atomic
from baa.plots.figures import save

RUN = "run"
"""User attribute of a started trial: the id of its W&B run."""

MODEL = "model"
"""User attribute of a started trial: the path of its best checkpoint."""


def results_table(study: optuna.Study, metric: str) -> pd.DataFrame:
    """One row per trial, best first: number, state, metric, searched settings, id of the W&B run."""
    rows = [
        {"trial": trial.number, "state": trial.state.name.lower(), metric: trial.value}
        | trial.params
        | {RUN: trial.user_attrs[RUN]}
        for trial in study.get_trials(deepcopy=False)
        if RUN in trial.user_attrs
    ]
    minimize = study.direction == StudyDirection.MINIMIZE
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=["trial", metric])
    return table.sort_values(metric, ascending=minimize, ignore_index=True)


def best_model(study: optuna.Study) -> str | None:
    """Return the path of the best trial's checkpoint; None before a trial is complete."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial.user_attrs.get(MODEL) if complete else None


def write_results(study: optuna.Study, metric: str, folder: Path) -> None:
    """Write `trials.csv` and, if the values of trials differ, `parallel.png` and `importance.png`."""
    write_atomic(folder / "trials.csv", results_table(study, metric).to_csv(index=False))
    if len({trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) > 1:
        plt.switch_backend("agg")  # Optuna draws by pyplot, whose backend MPLBACKEND names
        settings = sorted(study.best_params)
        lines = figures.plot_parallel_coordinate(study, params=settings, target_name=metric)
        lines.set_xticks(lines.get_xticks(), [metric, *settings])  # Optuna cuts long names
        plt.gcf().set_size_inches(2 + 2 * len(settings), 4.8)
        save(plt.gcf(), folder / "parallel.png", grow=True)
        figures.plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        save(plt.gcf(), folder / "importance.png", grow=True)
