"""Runs side by side: the logic of `python -m baa.compare`."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from baa.atomic_io import make_folder, write_atomic
from baa.errors import InputError
from baa.evaluation.page import as_pictures, as_table, document
from baa.evaluation.runs import Run, differing, find_runs, folds_of
from baa.metrics.comparison import paired_difference
from baa.metrics.coverage import COVERAGE, share_inside
from baa.metrics.out_of_fold import PREFIX, as_cases, out_of_fold
from baa.plots.figures import age_figure, agreement_figure, error_figure
from baa.plots.runs import curves_figure, difference_figure

TABLE, PAGE, OUT_OF_FOLD = "runs.csv", "compare.html", "out_of_fold.csv"
METRICS = ("cases", "mae", "rmse", "bias", "within_12", share_inside(COVERAGE))
SPLIT = "test"
NOTE = (
    "Out-of-fold: each case is read by the model that was not trained on it. The epoch of that model was chosen on the same "
    "fold, so the errors are slightly too small. Intervals are calibrated on the other folds."
)


def compare(paths: Sequence[Path], out: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compare runs; write `runs.csv` and `compare.html`, and of a cross-validation `out_of_fold.csv` and `.json`.

    Args:
        paths: runs, folders of runs, or folders of sweeps. The first run is what the others are compared with.
        out: a folder, made if need be.

    Returns:
        One row per run, and the out-of-fold metrics of a cross-validation, else none.

    Raises:
        InputError: a path holds no finished run, or a file of a run cannot be read.
    """
    runs = find_runs(paths)
    make_folder(out)
    table = runs_table(runs)
    write_atomic(out / TABLE, table.to_csv(index=False))
    body = [as_table(table.round(3).astype(object).where(table.notna(), "")), as_pictures(_figures(runs, table))]
    metrics: dict[str, Any] = {}
    if folds := folds_of(runs):
        cases, metrics = out_of_fold({fold: run.validated for fold, run in folds.items() if run.validated is not None})
        write_atomic(out / OUT_OF_FOLD, cases.to_csv(index=False))
        write_atomic((out / OUT_OF_FOLD).with_suffix(".json"), json.dumps(metrics, indent=2))
        body += ["<h2>Out-of-fold predictions</h2>", f"<p>{_headline(metrics)}</p><p>{html.escape(NOTE)}</p>"]
        body += [as_pictures(_fold_figures(cases))]
    write_atomic(out / PAGE, document(f"{len(runs)} runs", "\n".join(body)))
    return table, metrics


def runs_table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: test metrics, best validation MAE, cost, paired difference from the first run, differing settings."""
    first, settings = runs[0], differing(runs)
    rows = []
    for run in runs:
        row: dict[str, Any] = {"run": run.name, "stage": run.stage}
        row |= {name: run.metrics[f"{SPLIT}/{name}"] for name in METRICS if f"{SPLIT}/{name}" in run.metrics}
        if f"{SPLIT}/mae_ci" in run.metrics:
            row["mae_low"], row["mae_high"] = run.metrics[f"{SPLIT}/mae_ci"]
        if run.curve is not None:
            row["best_val_mae"] = run.curve["val/mae"].min()
        row |= {"core_hours": run.core_hours, "hours": run.hours}
        row |= {} if run is first else _against(run, first)
        rows.append(row)
    chosen = pd.DataFrame([{key: run.settings.get(key) for key in settings} for run in runs], index=range(len(runs)))
    return pd.concat([pd.DataFrame(rows), chosen], axis=1)


def _against(run: Run, first: Run) -> dict[str, Any]:
    """The paired difference of the MAE from the first run; nothing if they have no two cases with the same labels in common."""
    if run.tested is None or first.tested is None:
        return {}
    try:
        found: dict[str, Any] = dict(paired_difference(run.tested, first.tested, SPLIT))
    except InputError:
        return {}
    low, high = found[f"{SPLIT}/mae_difference_ci"]
    names = ("paired_cases", "mae_difference")
    return {name: found[f"{SPLIT}/{name}"] for name in names} | {"difference_low": low, "difference_high": high}


def _figures(runs: Sequence[Run], table: pd.DataFrame) -> list[Figure]:
    figures = []
    if "mae_low" in table:
        known = table.dropna(subset=["mae_low"])
        figures.append(error_figure(_reaches(known, "mae", "mae_low", "mae_high"), title="test error by run"))
    if "mae_difference" in table:
        differences = _reaches(table.dropna(subset=["mae_difference"]), "mae_difference", "difference_low", "difference_high")
        figures.append(difference_figure(differences, runs[0].name))
    if curves := {run.name: run.curve for run in runs if run.curve is not None}:
        figures.append(curves_figure(curves))
    return figures


def _reaches(table: pd.DataFrame, *columns: str) -> dict[str, tuple[float, float, float]]:
    rows = table[["run", *columns]].itertuples(index=False)
    return {name: (middle, low, high) for name, middle, low, high in rows}


def _fold_figures(cases: pd.DataFrame) -> list[Figure]:
    known = cases.dropna(subset=["true_months"])
    months = known.predicted_months.to_numpy()
    return [age_figure(as_cases(known), months, "out-of-fold"), agreement_figure(known.true_months.to_numpy(), months)]


def _headline(metrics: dict[str, Any]) -> str:
    if f"{PREFIX}/mae" not in metrics:
        return "No case has a known age."
    low, high = metrics[f"{PREFIX}/mae_ci"]
    text = f"MAE {metrics[f'{PREFIX}/mae']:.2f} months (95 % {low:.2f} to {high:.2f}) on {metrics[f'{PREFIX}/cases']} cases"
    inside = metrics.get(f"{PREFIX}/{share_inside(COVERAGE)}")
    return text if inside is None else f"{text}; {inside:.1%} of true ages lie inside their {COVERAGE:.0%} interval"
