"""Two sets of predictions of the same cases: is one nearer to the truth?"""

from pathlib import Path

import pandas as pd
import torch

from baa.errors import InputError
from baa.report.metrics import interval

NEEDED = ("id", "true_months", "predicted_months")


def read_predictions(file: Path) -> pd.DataFrame:
    """A `predictions.csv` of `fit` or `evaluate`, by id.

    Raises:
        InputError: no such file, or a column is missing.
    """
    if not file.is_file():
        raise InputError(f"{file} is not a file; `fit` and `evaluate` write predictions.csv")
    try:
        table = pd.read_csv(file, dtype={"id": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a table: {error}") from error
    if missing := [column for column in NEEDED if column not in table]:
        raise InputError(f"{file} has no column {missing[0]}; it takes a predictions.csv of `fit` or `evaluate`")
    return table.set_index("id")


def paired_difference(ours: pd.DataFrame, theirs: pd.DataFrame, split: str) -> dict[str, float | list[float]]:
    """Our MAE less theirs on the cases that both predicted, in months, with the paired bootstrap 95 % interval.

    Raises:
        InputError: fewer than two cases in common, or different truths for one.
    """
    both = ours.join(theirs, lsuffix="_ours", rsuffix="_theirs", how="inner").dropna(
        subset=["true_months_ours", "true_months_theirs"]
    )
    if len(both) < 2:
        raise InputError(f"--against: these predictions have {len(both)} cases in common with ours; a difference needs two")
    other = both[both.true_months_ours != both.true_months_theirs]
    if len(other):
        raise InputError(f"--against: the true age of {other.index[0]} is not the same in both; other labels, other cases?")
    errors = [(both[f"predicted_months_{side}"] - both.true_months_ours).abs() for side in ("ours", "theirs")]
    difference = torch.tensor((errors[0] - errors[1]).to_numpy())
    return {
        f"{split}/paired_cases": len(both),
        f"{split}/mae_difference": float(difference.mean()),
        f"{split}/mae_difference_ci": interval(difference),
    }
