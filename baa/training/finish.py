"""The end of a stage: how far off its ages are on the validation split, kept in its checkpoint for intervals."""

from pathlib import Path

import lightning as L
from torch import Tensor

from baa.checkpoints.trained_model import Restored
from baa.data.datamodules import HandDataModule
from baa.metrics.conformal import calibrate
from baa.modules.locator import LocatorModule
from baa.training.resume import amend

CALIBRATION = "val"


def with_calibration(model: Restored, data: HandDataModule, trainer: L.Trainer, file: Path) -> Restored:
    """The model with its errors on the validation split, which its checkpoint then holds too.

    Args:
        model: as its checkpoint has it.
        data: that holds the split; it goes on judging what it judges.
        trainer: that tests.
        file: the checkpoint.
    """
    told = data.datasets[CALIBRATION]
    judged, data.judged = data.judged, CALIBRATION
    readings: list[Tensor] = []
    reads_sex = not isinstance(model.module, LocatorModule)
    for dataset in (told, told.without_sex()) if reads_sex else (told,):
        data.datasets[CALIBRATION] = dataset
        trainer.test(model.module, datamodule=data, verbose=False)
        readings.append(model.module.take_predictions().months)
    data.datasets[CALIBRATION], data.judged = told, judged
    calibrated = model._replace(calibration=calibrate(told.radiographs.cases, *readings))
    if trainer.is_global_zero:
        amend(file, calibration=calibrated.calibration)
    trainer.strategy.barrier()
    return calibrated
