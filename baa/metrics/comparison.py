"""Comparison of two prediction tables of the same cases: the paired difference of the MAE."""

from pathlib import Path

import pandas as pd
import torch

from baa.errors import InputError
from baa.metrics.ages import bootstrap_interval

COLUMNS = ("id", "true_months", "predicted_months")
SAME_MONTHS = 1e-6


def read_predictions(file: Path) -> pd.DataFrame:
    """Read a `predictions.csv` of `baa.fit` or `baa.evaluate`, indexed by id.

    Raises:
        InputError: the file or a column is missing, or an id is repeated.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; give a predictions.csv of `baa.fit` or `baa.evaluate`")
    try:
        table = pd.read_csv(file, dtype={"id": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a CSV table ({error}); give a predictions.csv of `baa.fit` or `baa.evaluate`") from error
    if missing := [column for column in COLUMNS if column not in table]:
        raise InputError(f"{file}: no column {missing[0]}; give a predictions.csv of `baa.fit` or `baa.evaluate`")
    if repeated := list(table.id[table.id.duplicated()]):
        raise InputError(f"{file}: id {repeated[0]} is repeated; keep one row per id")
    return table.set_index("id")


def refuse_other_cases(true_months: pd.Series, theirs: pd.DataFrame) -> None:
    """Raise an error for a table that cannot be compared with our cases.

    Args:
        true_months: true ages of our cases, indexed by id.
        theirs: the other table, from `read_predictions`.

    Raises:
        InputError: fewer than two common cases, or a case with two different true ages.
    """
    both = pd.concat({"ours": true_months, "theirs": theirs.true_months}, axis=1, join="inner").dropna()
    if len(both) < 2:
        raise InputError(f"--against: {len(both)} cases in common; give predictions of at least 2 of the evaluated cases")
    different = both[(both.ours - both.theirs).abs() > SAME_MONTHS]
    if len(different):
        raise InputError(
            f"--against: the true age of {different.index[0]} differs; give predictions for the same cases and labels"
        )


def paired_difference(ours: pd.DataFrame, theirs: pd.DataFrame, split: str) -> dict[str, float | list[float]]:
    """Compute our MAE minus theirs on the common cases, in months, with the paired bootstrap 95 % interval.

    Args:
        ours, theirs: tables with `true_months` and `predicted_months`, indexed by id.
        split: prefix of the names.

    Raises:
        InputError: fewer than two common cases, or a case with two different true ages.

    Example:
        >>> true = pd.Series([100.0, 120.0], ["a", "b"])
        >>> ours = pd.DataFrame({"true_months": true, "predicted_months": true + 4})
        >>> theirs = pd.DataFrame({"true_months": true, "predicted_months": true - 6})
        >>> paired_difference(ours, theirs, "test")["test/mae_difference"]
        -2.0
    """
    refuse_other_cases(ours.true_months, theirs)
    both = ours.merge(theirs, left_index=True, right_index=True, suffixes=("_ours", "_theirs"))
    both = both.dropna(subset=["true_months_ours", "true_months_theirs"])
    errors = [(both[f"predicted_months_{side}"] - both.true_months_ours).abs() for side in ("ours", "theirs")]
    difference = torch.tensor((errors[0] - errors[1]).to_numpy())
    return {
        f"{split}/paired_cases": len(both),
        f"{split}/mae_difference": float(difference.mean()),
        f"{split}/mae_difference_ci": bootstrap_interval(difference),
    }
