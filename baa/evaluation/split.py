"""A split evaluated with a trained model: test, metrics, predictions.csv, figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from matplotlib.figure import Figure

from baa.atomic_io import write_atomic
from baa.checkpoints.trained_model import TrainedModel
from baa.data.cache import Radiographs
from baa.data.cases import Case
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.data.read.radiograph import Frame
from baa.metrics.ages import summarize
from baa.metrics.conformal import Errors, covered, interval_of
from baa.metrics.coverage import COVERAGE
from baa.metrics.predictions import Predictions
from baa.modules.evaluation import EvaluationModule
from baa.nets.boxes import upsample
from baa.nets.regions import PRIOR
from baa.plots.figures import age_figure, curve_figure, localization_figure, save

SHOWN_CASES = 10
CORNERS = ("x0", "y0", "x1", "y1")


class SplitResult(NamedTuple):
    """Metrics of a split by name, and the predictions of its cases; None for an empty split."""

    metrics: dict[str, Any]
    predictions: Predictions | None


def evaluation_data(
    trained: TrainedModel, radiographs: Mapping[str, Radiographs], *, batch_size: int, workers: int, split: str = "test"
) -> HandDataModule:
    """Build the data module that a model is evaluated on.

    Args:
        trained: the model; its cropper and input check find the regions.
        radiographs: by split.
        batch_size: of one process.
        workers: loader processes.
        split: that `test` reads.
    """
    settings: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "eval_split": split}
    model = trained.model
    if model.cropper is None:
        return HandDataModule({name: some.for_views(model.whole_px) for name, some in radiographs.items()}, **settings)
    return CropDataModule(radiographs, model.cropper, input_check=model.input_check, **settings)


def evaluate_split(
    trained: TrainedModel, data: HandDataModule, trainer: L.Trainer, folder: Path, *, figure_loggers: Sequence[Logger] = ()
) -> SplitResult:
    """Predict the split that `data` tests; write `predictions.csv`, `ages.png`, `heat_maps.png`.

    Args:
        trained: the model; its calibration gives the intervals.
        data: `data.eval_split` names the split, and prefixes the metrics.
        trainer: that tests.
        folder: for the files.
        figure_loggers: loggers that get the figures and the table of predictions too.
    """
    split, radiographs = data.eval_split, data.datasets[data.eval_split].radiographs
    if not radiographs.cases:
        return SplitResult({}, None)
    module = EvaluationModule(trained.model)
    trainer.test(module, datamodule=data, verbose=False)
    predictions = module.take_predictions()
    regions = region_names(data)
    metrics: dict[str, Any] = summarize(radiographs.cases, predictions, split, regions)
    metrics |= covered(radiographs.cases, predictions.months, trained.calibration, COVERAGE, split)
    for logger in trainer.loggers:
        logger.log_metrics({name: value for name, value in metrics.items() if isinstance(value, int | float)})
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        streams = trained.model.streams_with_ages
        table = predictions_table(radiographs.cases, radiographs.frames(), predictions, trained.calibration, regions, streams)
        write_atomic(folder / "predictions.csv", table.to_csv(index=False))
        figures: dict[str, Figure] = {}
        if any(case.months is not None for case in radiographs.cases):
            figures["ages"] = age_figure(radiographs.cases, predictions.months.numpy(), f"{split}: {folder}")
        if isinstance(data, CropDataModule):
            figures["heat_maps"] = heat_map_figure(data, predictions)
        for name, figure in figures.items():
            save(figure, folder / f"{name}.png")
        for logger in figure_loggers:
            if isinstance(logger, WandbLogger):
                logger.log_table("predictions", dataframe=table)
                for name in figures:
                    logger.log_image(name, [str(folder / f"{name}.png")])
    return SplitResult(metrics, predictions)


def region_names(data: HandDataModule) -> tuple[str, ...]:
    """Return the names of the regions that a data module cuts."""
    return tuple(data.crop.regions) if isinstance(data, CropDataModule) else ()


def predictions_table(
    cases: Sequence[Case],
    frames: Sequence[Frame],
    predictions: Predictions,
    calibration: Errors,
    regions: Sequence[str],
    streams: Sequence[str] = (),
) -> pd.DataFrame:
    """Make one row per case: id, sex, true and predicted months, interval, ages of the streams, boxes in pixels of its file."""
    rows = []
    for i, (case, frame) in enumerate(zip(cases, frames, strict=True)):
        row: dict[str, Any] = {
            "id": case.id,
            "sex": case.sex.name.lower(),
            "true_months": case.months,
            "predicted_months": round(float(predictions.months[i]), 2),
        }
        if interval := interval_of(calibration, case.sex, float(predictions.months[i]), COVERAGE):
            row |= {name: round(edge, 2) for name, edge in zip(("lower_months", "upper_months"), interval, strict=True)}
        if predictions.alone is not None:
            ages = zip(streams, predictions.alone[i].tolist(), strict=True)
            row |= {f"{stream}_months": round(months, 2) for stream, months in ages}
        if predictions.boxes is not None and predictions.fallback is not None:
            pixels = frame.boxes_in_image(predictions.boxes[i].numpy())
            for region, name in enumerate(regions):
                row |= {f"{name}_{corner}": round(float(x), 1) for corner, x in zip(CORNERS, pixels[region], strict=True)}
                row[f"{name}_fallback"] = bool(predictions.fallback[i, region])
        rows.append(row)
    return pd.DataFrame(rows)


def heat_map_figure(data: CropDataModule, predictions: Predictions) -> Figure:
    """Draw heat maps and boxes of some cases of the evaluated split, evenly spaced in age order (fig. 9)."""
    dataset = data.datasets[data.eval_split]
    cases = dataset.radiographs.cases
    order = sorted(range(len(cases)), key=lambda i: -1.0 if (age := cases[i].months) is None else age)
    chosen = [order[round(place)] for place in np.linspace(0, len(order) - 1, min(SHOWN_CASES, len(order)))]
    images = torch.stack([dataset[i].image for i in chosen]).float() / 255
    _, regions = data.localize(images)
    assert regions.heat is not None
    px = images.shape[-1] // 2
    titles = []
    for i in chosen:
        true = "?" if cases[i].months is None else f"{cases[i].months:.0f}"
        titles.append(f"{cases[i].id}, {cases[i].sex.name.lower()}\n{true} months, predicted {predictions.months[i]:.0f}")
    return localization_figure(
        images[:, 0, ::2, ::2].numpy(),
        torch.stack([upsample(heat, px) for heat in regions.heat.unbind(dim=1)], dim=1).numpy(),
        regions.boxes.numpy(),
        titles,
        region_names(data),
        predictions.gt_boxes[chosen].numpy(),
        regions.instead[PRIOR].boxes.numpy() if regions.instead else None,
    )


def draw_curve(folder: Path, stage: str) -> None:
    """Draw `learning_curve.png` from the stage's `metrics.csv`."""
    save(curve_figure(pd.read_csv(folder / "metrics.csv"), stage), folder / "learning_curve.png")
