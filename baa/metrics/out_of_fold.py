"""The out-of-fold predictions of a cross-validation: each case by the model that was not trained on it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from baa.data.cases import Case
from baa.data.sources.phantom import Phantom
from baa.errors import InputError
from baa.metrics.ages import summarize
from baa.metrics.conformal import calibrate, covered, interval_of
from baa.metrics.coverage import COVERAGE
from baa.metrics.predictions import Predictions
from baa.patient import Sex

PREFIX = "out_of_fold"


def out_of_fold(tables: Mapping[int, pd.DataFrame]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Join the validation predictions of all folds; give each case an interval, and compute the metrics of all cases.

    The intervals of a fold are calibrated on the errors of the other folds, so that their coverage is measured on new cases.

    Args:
        tables: by fold, indexed by id, with sex, true_months and predicted_months.

    Returns:
        One row per case: id, fold, sex, true and predicted months, interval. Metrics as of a split, prefixed `out_of_fold/`.

    Raises:
        InputError: a case is in two folds.

    Example:
        >>> folds = {}
        >>> for fold in (0, 1):
        ...     ages = [60.0 + 2 * i + fold for i in range(60)]
        ...     ids = [f"{fold}-{i}" for i in range(60)]
        ...     table = {"sex": "female", "true_months": ages, "predicted_months": [age + 3 for age in ages]}
        ...     folds[fold] = pd.DataFrame(table, index=pd.Index(ids, name="id"))
        >>> table, metrics = out_of_fold(folds)
        >>> len(table), metrics["out_of_fold/mae"]
        (120, 3.0)
    """
    whole = pd.concat(dict(tables), names=["fold"]).reset_index()
    if repeated := list(whole.id[whole.id.duplicated()]):
        raise InputError(f"{repeated[0]} is in two folds; give the runs of one cross-validation of the same cases")
    cases, months = as_cases(whole), torch.tensor(whole.predicted_months.to_numpy(), dtype=torch.float32)
    metrics: dict[str, Any] = summarize(cases, _ages(months), PREFIX)
    edges: dict[int, tuple[float, float]] = {}
    shares: list[tuple[int, dict[str, float]]] = []
    for fold in tables:
        own = (whole.fold == fold).to_numpy()
        inside, outside = (np.flatnonzero(chosen).tolist() for chosen in (own, ~own))
        errors = calibrate([cases[i] for i in outside], months[outside])
        shares.append((len(inside), covered([cases[i] for i in inside], months[inside], errors, COVERAGE, PREFIX)))
        for i in inside:
            if interval := interval_of(errors, cases[i].sex, float(months[i]), COVERAGE):
                edges[i] = interval
    whole["lower_months"] = [round(edges[i][0], 2) if i in edges else None for i in range(len(whole))]
    whole["upper_months"] = [round(edges[i][1], 2) if i in edges else None for i in range(len(whole))]
    for name in sorted({name for _, found in shares for name in found if name.count("/") == 1}):
        known = [(count, found[name]) for count, found in shares if name in found]
        metrics[name] = sum(count * value for count, value in known) / sum(count for count, _ in known)
    columns = ["id", "fold", "sex", "true_months", "predicted_months", "lower_months", "upper_months"]
    return whole[columns], metrics


def as_cases(table: pd.DataFrame) -> list[Case]:
    """The rows of a table of predictions as cases, whose image nobody reads."""
    rows = zip(table.id, table.sex, table.true_months, strict=True)
    return [
        Case(id_, Phantom(0, 0, 0.0, Sex[sex.upper()]), None if pd.isna(months) else float(months), Sex[sex.upper()])
        for id_, sex, months in rows
    ]


def _ages(months: torch.Tensor) -> Predictions:
    return Predictions(months, torch.empty(len(months), 0, 4), torch.empty(len(months), 2))
