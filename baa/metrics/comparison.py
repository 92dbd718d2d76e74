"""Two sets of predictions of the same cases: is one nearer to the truth?"""

from pathlib import Path

import pandas as pd
import torch

from baa.errors import InputError
from baa.metrics.ages import interval

NEEDED = ("id", "true_months", "predicted_months")
SAME_MONTHS = 1e-6


def read_predictions(file: Path) -> pd.DataFrame:
    """A `predictions.csv` of `fit` or `evaluate`, by id.

    Raises:
        InputError: no such file, a column is missing, or an id stands in it twice.
    """
    if not file.is_file():
        raise InputError(f"{file} is not a file; `fit` and `evaluate` write predictions.csv")
    try:
        table = pd.read_csv(file, dtype={"id": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a table: {error}") from error
    if missing := [column for column in NEEDED if column not in table]:
        raise InputError(f"{file} has no column {missing[0]}; it takes a predictions.csv of `fit` or `evaluate`")
    if twice := list(table.id[table.id.duplicated()]):
        raise InputError(f"{file}: id {twice[0]} stands in it twice")
    return table.set_index("id")


def refuse_other_cases(true_months: pd.Series, theirs: pd.DataFrame) -> None:
    """Refuse predictions that ours cannot be compared with.

    Args:
        true_months: of our cases, by id.
        theirs: of `read_predictions`.

    Raises:
        InputError: fewer than two cases in common, or different truths for one.
    """
    both = pd.concat({"ours": true_months, "theirs": theirs.true_months}, axis=1, join="inner").dropna()
    if len(both) < 2:
        raise InputError(f"--against: these predictions have {len(both)} cases in common with ours; a difference needs two")
    other = both[(both.ours - both.theirs).abs() > SAME_MONTHS]
    if len(other):
        raise InputError(f"--against: the true age of {other.index[0]} is not the same in both; other labels, other cases?")


def paired_difference(ours: pd.DataFrame, theirs: pd.DataFrame, split: str) -> dict[str, float | list[float]]:
    """Our MAE less theirs on the cases that both predicted, in months, with the paired bootstrap 95 % interval.

    Raises:
        InputError: fewer than two cases in common, or different truths for one.
    """
    refuse_other_cases(ours.true_months, theirs)
    both = ours.merge(theirs, left_index=True, right_index=True, suffixes=("_ours", "_theirs"))
    both = both.dropna(subset=["true_months_ours", "true_months_theirs"])
    errors = [(both[f"predicted_months_{side}"] - both.true_months_ours).abs() for side in ("ours", "theirs")]
    difference = torch.tensor((errors[0] - errors[1]).to_numpy())
    return {
        f"{split}/paired_cases": len(both),
        f"{split}/mae_difference": float(difference.mean()),
        f"{split}/mae_difference_ci": interval(difference),
    }
