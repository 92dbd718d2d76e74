"""The end of a stage: input check, calibration and evaluation of its best model, then one write of checkpoint and bundle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.loggers import Logger

from baa.atomic_io import write_atomic
from baa.checkpoints.bundle import write_bundle
from baa.checkpoints.load import RECORD, as_model, read_checkpoint
from baa.checkpoints.trained_model import TrainedModel
from baa.config.schema import Config
from baa.data.cache import Radiographs
from baa.data.datamodules import HandDataModule
from baa.evaluation.split import draw_curve, evaluate_split, evaluation_data, predictions_table, region_names
from baa.metrics.conformal import calibrate
from baa.metrics.predictions import Predictions
from baa.metrics.saturation import saturated
from baa.metrics.stream_ages import stream_errors
from baa.modules.evaluation import EvaluationModule
from baa.nets.input_check import InputCheck
from baa.runtime.checkpoint_io import AtomicCheckpointIO
from baa.training.input_check import shared_input_check

CALIBRATION = "val"
VALIDATED = "validation.csv"


def finish_stage(
    stage: str,
    config: Config,
    splits: Mapping[str, Radiographs],
    trainer: L.Trainer,
    input_check: InputCheck | None,
    figure_loggers: Sequence[Logger] = (),
) -> tuple[TrainedModel, dict[str, Any]]:
    """Complete the best model of a stage and evaluate it on the test split.

    Writes best.ckpt and bundle/ once, after everything has been computed.

    Args:
        stage: that has been trained.
        config: the run's settings.
        splits: radiographs by split.
        trainer: that trained it.
        input_check: of the model whose locator cut the crops; None trains one for a model with a locator of its own.
        figure_loggers: loggers that get figures.

    Returns:
        The model, and its metrics.
    """
    folder = config.folder / stage
    if trainer.is_global_zero:
        draw_curve(folder, stage)
    file = folder / "best.ckpt"
    checkpoint = read_checkpoint(file)
    trained = as_model(checkpoint, file)
    shared = folder / ".input_check.safetensors"
    if trained.locator is not None:
        device = trainer.strategy.root_device
        check = input_check or shared_input_check(trained.locator, splits, device, shared, seed=config.seed)
        trained.model.input_check = check
    batch_size = getattr(config, stage).fit.batch_size
    data = evaluation_data(trained, splits, batch_size=batch_size, workers=config.data.workers)
    calibration, validated = _calibrate(trained, data, trainer)
    if trainer.is_global_zero:
        write_atomic(folder / VALIDATED, _validation_table(trained, data, validated).to_csv(index=False))
    trained = trained._replace(calibration=calibration)
    result = evaluate_split(trained, data, trainer, folder, figure_loggers=figure_loggers)
    if trainer.is_global_zero:
        _write(trained, checkpoint, file, splits, result.metrics)
        shared.unlink(missing_ok=True)
    trainer.strategy.barrier()
    return trained, result.metrics


def _validation_table(trained: TrainedModel, data: HandDataModule, predictions: Predictions) -> pd.DataFrame:
    """The ages of the validation split, without intervals: they are calibrated on the same cases."""
    radiographs, streams = data.datasets[CALIBRATION].radiographs, trained.model.streams_with_ages
    return predictions_table(radiographs.cases, radiographs.frames(), predictions, {}, region_names(data), streams)


def _calibrate(trained: TrainedModel, data: HandDataModule, trainer: L.Trainer) -> tuple[dict[str, list[float]], Predictions]:
    """Compute errors and ends of the ages on the validation split, with sex and, for a model that reads sex, without.

    Also return the predictions with sex.
    """
    module, dataset, split = EvaluationModule(trained.model), data.datasets[CALIBRATION], data.eval_split
    data.eval_split = CALIBRATION
    found = []
    for variant in (dataset,) if trained.stage == "locator" else (dataset, dataset.without_sex()):
        data.datasets[CALIBRATION] = variant
        trainer.test(module, datamodule=data, verbose=False)
        found.append(module.take_predictions())
    data.datasets[CALIBRATION], data.eval_split = dataset, split
    cases, months = dataset.radiographs.cases, [predictions.months for predictions in found]
    table = calibrate(cases, *months) | saturated(cases, *months)
    alone = [predictions.alone for predictions in found if predictions.alone is not None]
    return (table | stream_errors(cases, trained.model.streams_with_ages, *alone) if alone else table), found[0]


def _write(
    trained: TrainedModel,
    checkpoint: dict[str, Any],
    file: Path,
    splits: Mapping[str, Radiographs],
    metrics: Mapping[str, Any],
) -> None:
    checkpoint[RECORD] |= {"calibration": trained.calibration}
    if trained.model.input_check is not None:
        checkpoint[RECORD] |= {"input_check": {k: v.cpu() for k, v in trained.model.input_check.state_dict().items()}}
    AtomicCheckpointIO().save_checkpoint(checkpoint, file)
    write_bundle(file.parent / "bundle", trained, splits, metrics)
