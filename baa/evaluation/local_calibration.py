"""A model calibrated on local radiographs: a line per sex, and prediction intervals from local errors."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from baa.atomic_io import make_folder, write_atomic
from baa.checkpoints.bundle import WEIGHTS
from baa.checkpoints.trained_model import TrainedModel
from baa.data.cases import Case
from baa.data.sources.phantom import Phantom
from baa.errors import InputError
from baa.evaluation.checkpoint import evaluate
from baa.metrics.conformal import calibrate
from baa.metrics.local_line import FEWEST, LocalFit, fit_lines
from baa.metrics.saturation import OLDEST, YOUNGEST
from baa.model_card import CARD, read_card
from baa.patient import MAX_MONTHS, Sex

EVALUATED = "evaluated"
LIMIT = "Calibrated on {count} local radiographs: its ages and intervals are those of their readers."


def calibrate_locally(trained: TrainedModel, bundle: Path, settings: Sequence[str], out: Path) -> LocalFit:
    """Learn the lines and intervals of local readers; write a bundle with the same weights that applies them.

    Args:
        trained: the model of the bundle.
        bundle: its folder.
        settings: `key=value`, of the local radiographs.
        out: folder of the new bundle; `evaluated/` in it holds the ages that it was learned from.

    Returns:
        The lines, and what they gain by cross-validation.

    Raises:
        InputError: no bundle, a bundle that is calibrated already, or fewer than `FEWEST` radiographs with age and sex.
    """
    if not bundle.is_dir():
        raise InputError(f"--checkpoint: {bundle} is no bundle; give the folder bundle beside it")
    if trained.lines:
        raise InputError(f"--checkpoint: {bundle} is calibrated already; give the bundle that it was made from")
    if out.resolve() == bundle.resolve():
        raise InputError("--out: this is the bundle itself; give another folder")
    evaluate(trained, settings, split="unseen", out=out / EVALUATED)
    table = pd.read_csv(out / EVALUATED / "predictions.csv", dtype={"id": str}).dropna(subset=["true_months"])
    table = table[table["sex"] != Sex.UNKNOWN.name.lower()]
    if len(table) < FEWEST:
        raise InputError(f"--table: {len(table)} radiographs have an age and a sex; give at least {FEWEST}")
    sexes = [Sex[sex.upper()] for sex in table["sex"]]
    fit = fit_lines(sexes, table["predicted_months"].to_numpy(float), table["true_months"].to_numpy(float))
    cases = [
        Case(id_, Phantom(0, 0, months, sex), months, sex)
        for id_, months, sex in zip(table["id"], table["true_months"].astype(float), sexes, strict=True)
    ]
    card = read_card(bundle)
    card |= {
        "lines": {sex.name.lower(): list(line) for sex, line in fit.lines.items()},
        "calibration": _errors(trained, cases, fit),
        "limits": [*card.get("limits", ()), LIMIT.format(count=len(cases))],
        "local": {"cases": len(cases), "mae_before": fit.mae_before, "mae_after": fit.mae_after, "lines_used": fit.used},
    }
    make_folder(out)
    shutil.copyfile(bundle / WEIGHTS, out / WEIGHTS)
    write_atomic(out / CARD, json.dumps(card, indent=2, allow_nan=False))
    return fit


def _errors(trained: TrainedModel, cases: Sequence[Case], fit: LocalFit) -> dict[str, Any]:
    """Local errors where there are enough; those of an unknown sex, which no local case has, stay. Ends follow the lines."""
    unknown = Sex.UNKNOWN.name.lower()
    local = calibrate(cases, torch.from_numpy(fit.months).float())
    table = {group: errors for group, errors in local.items() if not group.startswith(unknown)}
    for group, months in trained.calibration.items():
        end, _, sex = group.partition("/")
        if group.startswith(unknown):
            table[group] = months
        elif end in (YOUNGEST, OLDEST):
            moved = fit.lines[Sex[sex.upper()]].of(np.array(months)).clip(0, MAX_MONTHS)
            table[group] = sorted(moved.round(2).tolist())
    return table
