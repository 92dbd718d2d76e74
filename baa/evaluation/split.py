"""The end of a stage, and all of `evaluate`: test, metrics, predictions, figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from matplotlib.figure import Figure

from baa.atomic_io import write_whole
from baa.data.cases import Case
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.data.radiograph import boxes_in_file
from baa.metrics.ages import Predictions, summarise
from baa.metrics.conformal import Errors, covered, interval_of
from baa.metrics.coverage import COVERAGE
from baa.modules.base import AgeModule
from baa.nets.boxes import upsample
from baa.nets.cropper import REGIONS
from baa.plots.figures import age_figure, curve_figure, localisation_figure, save

SHOWN_CASES = 10
CORNERS = ("x0", "y0", "x1", "y1")


class Verdict(NamedTuple):
    """The metrics of a split, by name; what was predicted for its cases, None if it has none."""

    metrics: dict[str, Any]
    predictions: Predictions | None


def judge(
    module: AgeModule,
    data: HandDataModule,
    trainer: L.Trainer,
    folder: Path,
    *,
    calibration: Errors,
    figures_to: Sequence[Logger] = (),
) -> Verdict:
    """Predict the split that `data` tests; write `predictions.csv`, `ages.png`, `heat_maps.png`.

    Args:
        module: with the weights to judge.
        data: `data.judged` names the split, and prefixes the metrics.
        trainer: that tests.
        folder: for the files.
        calibration: errors that intervals are made of; without any there are no intervals.
        figures_to: loggers that get the figures too.
    """
    radiographs = data.datasets[data.judged].radiographs
    if not radiographs.cases:
        return Verdict({}, None)
    trainer.test(module, datamodule=data, verbose=False)
    predictions = module.take_predictions()
    metrics = summarise(radiographs.cases, predictions, data.judged)
    metrics |= covered(radiographs.cases, predictions.months, calibration, COVERAGE, data.judged)
    for logger in trainer.loggers:
        logger.log_metrics({name: value for name, value in metrics.items() if isinstance(value, int | float)})
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        table = predictions_table(radiographs.cases, radiographs.sizes(), predictions, calibration)
        write_whole(folder / "predictions.csv", table.to_csv(index=False))
        figures: dict[str, Figure] = {}
        if any(case.months is not None for case in radiographs.cases):
            figures["ages"] = age_figure(radiographs.cases, predictions.months.numpy(), f"{data.judged}: {folder}")
        if isinstance(data, CropDataModule):
            figures["heat_maps"] = heat_map_figure(data, predictions)
        for name, figure in figures.items():
            save(figure, folder / f"{name}.png")
            _send(figures_to, name, folder / f"{name}.png")
    return Verdict(metrics, predictions)


def _send(loggers: Sequence[Logger], name: str, file: Path) -> None:
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(file)])


def predictions_table(
    cases: Sequence[Case], sizes: Sequence[tuple[int, int]], predictions: Predictions, calibration: Errors
) -> pd.DataFrame:
    """A row a case: id, sex, true and predicted months, the interval, and both boxes in pixels of the case's own file."""
    rows = []
    for i, (case, (width, height)) in enumerate(zip(cases, sizes, strict=True)):
        row: dict[str, Any] = {
            "id": case.id,
            "sex": case.sex.name.lower(),
            "true_months": case.months,
            "predicted_months": round(float(predictions.months[i]), 2),
        }
        if interval := interval_of(calibration, case.sex, float(predictions.months[i]), COVERAGE):
            row |= {name: round(edge, 2) for name, edge in zip(("lower_months", "upper_months"), interval, strict=True)}
        if predictions.boxes is not None and predictions.fallback is not None:
            pixels = boxes_in_file(predictions.boxes[i].numpy(), width, height)
            for region, name in enumerate(REGIONS):
                row |= {f"{name}_{corner}": round(float(x), 1) for corner, x in zip(CORNERS, pixels[region], strict=True)}
                row[f"{name}_fallback"] = bool(predictions.fallback[i, region])
        rows.append(row)
    return pd.DataFrame(rows)


def heat_map_figure(data: CropDataModule, predictions: Predictions) -> Figure:
    """Heat maps and boxes of some cases of the judged split, evenly spaced in age order (fig. 9)."""
    dataset = data.datasets[data.judged]
    cases = dataset.radiographs.cases
    order = sorted(range(len(cases)), key=lambda i: -1.0 if (age := cases[i].months) is None else age)
    chosen = [order[round(place)] for place in np.linspace(0, len(order) - 1, min(SHOWN_CASES, len(order)))]
    images = torch.stack([dataset[i].image for i in chosen]).float() / 255
    _, regions = data.look(images)
    assert regions.heat is not None
    px = images.shape[-1] // 2
    titles = []
    for i in chosen:
        true = "?" if cases[i].months is None else f"{cases[i].months:.0f}"
        titles.append(f"{cases[i].id}, {cases[i].sex.name.lower()}\n{true} months, read {predictions.months[i]:.0f}")
    return localisation_figure(
        images[:, 0, ::2, ::2].numpy(),
        torch.stack([upsample(regions.heat[:, region], px) for region in range(len(REGIONS))], dim=1).numpy(),
        regions.boxes.numpy(),
        titles,
        predictions.truth[chosen].numpy(),
    )


def draw_curve(folder: Path, stage: str) -> None:
    """`learning_curve.png` from the stage's `metrics.csv`."""
    save(curve_figure(pd.read_csv(folder / "metrics.csv"), stage), folder / "learning_curve.png")
