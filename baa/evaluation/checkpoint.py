"""Judge a checkpoint on any cases: the logic of `python -m baa.evaluate`."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.assembly.data import read_cohort, refuse_fewer_than_processes
from baa.assembly.modules import crop_arguments
from baa.assembly.trainer import build_trainer
from baa.atomic_io import make_folder, write_whole
from baa.checkpoints.load import restore
from baa.checkpoints.provenance import id_digest
from baa.checkpoints.trained_model import Restored
from baa.config.load import differences, load
from baa.config.schema import Config
from baa.config.validate import STAGES
from baa.data.cache import Radiographs
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.errors import InputError
from baa.evaluation.report import write_report
from baa.evaluation.split import judge
from baa.machine import keep_freed_memory
from baa.metrics.ages import localisation
from baa.metrics.comparison import paired_difference, read_predictions, refuse_other_cases
from baa.metrics.conformal import covered
from baa.metrics.coverage import COVERAGES
from baa.modules.estimator import EstimatorModule
from baa.nets.attention import READINGS
from baa.nets.boxes import RULES
from baa.nets.cropper import RegionCropper
from baa.runtime.preemption import StopAtOnce, stoppable

UNSEEN = "unseen"
NETWORKS = ("weights", "stages", "locator", "estimator", "joint")
FLIP_AVERAGE = "estimator.flip_average"
ABOUT_READING = (FLIP_AVERAGE, *(f"{stage}.fit.batch_size" for stage in STAGES))
"""Of the settings of networks those that an evaluation may be given."""


def evaluate(
    checkpoint: Path,
    overrides: Sequence[str],
    *,
    split: str,
    out: Path,
    compare: bool = False,
    against: Path | None = None,
) -> dict[str, Any]:
    """Judge a checkpoint; write `metrics.json`, `predictions.csv`, `report.html` and figures; return the metrics by stage.

    Args:
        checkpoint: of any stage, or a bundle; its own settings apply where `overrides`
            say nothing.
        overrides: settings, `key=value`.
        split: `train`, `val`, `test`, or `unseen`: every case that the checkpoint was neither trained nor chosen on.
        out: a folder, made if need be.
        compare: also measure where the locator looks under every reading of its heat map and both box rules, written to
            `readings.json`.
        against: another `predictions.csv` of these cases, to add the paired difference of the MAE to the metrics.

    Raises:
        InputError: the checkpoint, a setting or the data cannot be used, the split has no case, or fewer than processes.
    """
    restored = restore(checkpoint)
    theirs = read_predictions(against) if against else None
    config = load(None, overrides, base=restored.settings)
    _refuse_other_networks(load(None, base=restored.settings), config)
    if compare and restored.locator is None:
        raise InputError("--compare-readings needs a checkpoint with a locator; this one reads the whole hand")
    keep_freed_memory()
    make_folder(out)
    radiographs = _judged(read_cohort(config.data, out), split, restored)
    if not radiographs.cases:
        raise InputError(f"split {split} has no case; data.split decides which case is in which")
    if theirs is not None:
        refuse_other_cases(pd.Series({case.id: case.months for case in radiographs.cases}, dtype=float), theirs)
    rank_zero_info(f"{restored.stage}: {len(radiographs.cases)} cases ({split})")
    restored.lineage.tell()
    with stoppable("what is not yet written is lost") as stop:
        trainer = build_trainer(config, logger=None, callbacks=[StopAtOnce(stop)])
        refuse_fewer_than_processes({split: radiographs}, trainer.world_size)
        if any(setting.lstrip("-").startswith(f"{FLIP_AVERAGE}=") for setting in overrides):
            for part in restored.module.modules():  # of `joint` a part
                if isinstance(part, EstimatorModule):
                    part.flip_average = config.estimator.flip_average
        data = _data(config, restored, radiographs, split)
        metrics, predictions = judge(restored.module, data, trainer, out, calibration=restored.calibration)
        if theirs is not None:
            trainer.strategy.barrier()  # the first process has written the table
            metrics |= paired_difference(read_predictions(out / "predictions.csv"), theirs, split)
        metrics |= {f"fusion/{name}": float(weight) for name, weight in restored.module.learnt_weights().items()}
        if predictions is not None:
            for coverage in COVERAGES:
                metrics |= covered(radiographs.cases, predictions.months, restored.calibration, coverage, split)
        result = {restored.stage: metrics}
        write_first = rank_zero_only(write_whole)
        write_first(out / "metrics.json", json.dumps(result, indent=2))
        if predictions is not None:
            rank_zero_only(write_report)(out / "report.html", restored, data, metrics, predictions)
        if compare:
            write_first(out / "readings.json", json.dumps(_compare(config, restored, radiographs, split, trainer), indent=2))
    return result


def _refuse_other_networks(own: Config, asked: Config) -> None:
    for key, (_, new) in differences(own, asked).items():
        if key not in ABOUT_READING and key.split(".")[0] in NETWORKS:
            raise InputError(f"{key}={new}: a trained network keeps its own; what may change of it: {', '.join(ABOUT_READING)}")


def _judged(cohort: dict[str, Radiographs], split: str, restored: Restored) -> Radiographs:
    if split != UNSEEN:
        seen = sum(id_digest(case.id) in restored.lineage.seen for case in cohort[split].cases)
        if seen and split == "test":
            rank_zero_info(f"{seen} of these cases were trained or chosen on; --split unseen leaves them out")
        return cohort[split]
    every = next(iter(cohort.values()))
    cases = [case for radiographs in cohort.values() for case in radiographs.cases]
    rows = [row for radiographs in cohort.values() for row in radiographs.row]
    return every._replace(cases=cases, row=rows).keep([id_digest(case.id) not in restored.lineage.seen for case in cases])


def _data(config: Config, restored: Restored, radiographs: Radiographs, split: str, **crops: Any) -> HandDataModule:
    fit = getattr(config, restored.stage).fit
    common: dict[str, Any] = {"batch_size": fit.batch_size, "workers": config.data.workers, "judged": split}
    if restored.locator is None:
        return HandDataModule({split: radiographs.for_views(config.estimator.whole_px)}, **common)
    crop = RegionCropper(restored.locator, **(crop_arguments(config) | crops))
    return CropDataModule({split: radiographs}, crop, recipe={}, recogniser=restored.recogniser, **common)


def _compare(
    config: Config, restored: Restored, radiographs: Radiographs, split: str, trainer: L.Trainer
) -> dict[str, dict[str, float | list[float]]]:
    compared = {}
    for reading, rule in _combinations(restored):
        data = _data(config, restored, radiographs, split, reading=reading, rule=rule)
        trainer.test(restored.module, datamodule=data, verbose=False)
        compared[f"{reading}/{rule}"] = localisation(restored.module.take_predictions(), split)
    return compared


def _combinations(restored: Restored) -> Iterator[tuple[str, str]]:
    assert restored.locator is not None
    for reading in READINGS:
        if reading != "class" or restored.locator.head.age.kind == "distribution":
            for rule in RULES:
                yield reading, rule
