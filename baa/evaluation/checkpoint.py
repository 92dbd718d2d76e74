"""A trained model evaluated on any cases: the logic of `python -m baa.evaluate`."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.assembly.data import first_batches, load_splits, refuse_fewer_than_processes
from baa.assembly.modules import build_cropper
from baa.assembly.trainer import build_trainer
from baa.atomic_io import make_folder, write_atomic
from baa.checkpoints.trained_model import TrainedModel, with_lines
from baa.config.load import differences, load
from baa.config.schema import STAGES, Config
from baa.data.cache import Radiographs
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.errors import InputError
from baa.evaluation.faithfulness import faithfulness
from baa.evaluation.report import write_report
from baa.evaluation.split import evaluate_split, evaluation_data, region_names
from baa.machine import keep_freed_memory
from baa.metrics.comparison import paired_difference, read_predictions, refuse_other_cases
from baa.metrics.conformal import covered
from baa.metrics.coverage import COVERAGES
from baa.metrics.localization import localization
from baa.modules.evaluation import EvaluationModule
from baa.nets.attention import CAM_METHODS, CAM_MODES
from baa.nets.boxes import BOX_METHODS
from baa.nets.two_stage import BoneAgeModel
from baa.runtime.preemption import ExitOnSignal, stoppable_work
from baa.runtime.stray import refuse_stray_ranks

UNSEEN = "unseen"
NETWORK_SETTINGS = ("weights", "stages", "locator", "estimator", "joint")
EVALUATION_SETTINGS = ("estimator.flip_average", *(f"{stage}.fit.batch_size" for stage in STAGES))
"""Settings of networks that an evaluation may change."""

Metrics = dict[str, Any]


def evaluate(
    trained: TrainedModel,
    overrides: Sequence[str],
    *,
    split: str,
    out: Path,
    compare: bool = False,
    faithful: bool = False,
    against: Path | None = None,
) -> dict[str, Metrics]:
    """Evaluate a model; write `metrics.json`, `predictions.csv`, `report.html` and figures.

    Args:
        trained: of any stage; its own settings apply where `overrides` are silent.
        overrides: settings, `key=value`.
        split: `train`, `val`, `test`, or `unseen`: all cases that the model was neither trained nor chosen on.
        out: a folder, made if need be.
        compare: also measure the regions with every heat map method and mode and box method, written to `readings.json`.
        faithful: also measure whether heat maps show what the locator uses, written to `faithfulness.json`.
        against: another `predictions.csv` of these cases; adds the paired difference of the MAE.

    Returns:
        The metrics by stage.

    Raises:
        InputError: a setting or the data cannot be used, the split has no case, or fewer cases than processes.
    """
    theirs = read_predictions(against) if against else None
    if compare and trained.members:
        raise InputError("--compare-readings: regions are those of one model; give one --checkpoint")
    if (compare or faithful) and trained.locator is None:
        option = "--compare-readings" if compare else "--faithfulness"
        raise InputError(f"{option}: this model reads the whole radiograph; give one with a locator")
    config, trained, radiographs = chosen_cases(trained, overrides, split, out)
    if theirs is not None:
        refuse_other_cases(pd.Series({case.id: case.months for case in radiographs.cases}, dtype=float), theirs)
    with stoppable_work("results that are not written yet are lost") as signals:
        trainer = build_trainer(config, logger=None, callbacks=[ExitOnSignal(signals)])
        refuse_fewer_than_processes({split: radiographs}, trainer.world_size)
        data = _data(config, trained, radiographs, split)
        metrics, predictions = evaluate_split(trained, data, trainer, out)
        if theirs is not None:
            trainer.strategy.barrier()  # the first process has written the table
            metrics |= paired_difference(read_predictions(out / "predictions.csv"), theirs, split)
        if trained.model.estimator is not None and not trained.members:
            learned = trained.model.estimator.fusion.learned_weights()
            metrics |= {f"fusion/{name}": float(weight) for name, weight in learned.items()}
        if predictions is not None:
            for coverage in COVERAGES:
                metrics |= covered(radiographs.cases, predictions.months, trained.calibration, coverage, split)
        result = {trained.stage: metrics}
        write_first = rank_zero_only(write_atomic)
        write_first(out / "metrics.json", json.dumps(result, indent=2))
        if predictions is not None:
            rank_zero_only(write_report)(out / "report.html", trained, data, metrics, predictions)
        if compare:
            write_first(out / "readings.json", json.dumps(_compare(config, trained, radiographs, split, trainer), indent=2))
        if faithful and trainer.is_global_zero:
            assert isinstance(data, CropDataModule)
            found = faithfulness(data, trainer.strategy.root_device, progress=config.trainer.progress)
            write_atomic(out / "faithfulness.json", json.dumps(found, indent=2))
    return result


def chosen_cases(
    trained: TrainedModel, overrides: Sequence[str], split: str, out: Path
) -> tuple[Config, TrainedModel, Radiographs]:
    """Return the settings of a test, the model with its crop settings, and the radiographs of the split.

    Args:
        trained, overrides, split, out: see `evaluate`.

    Raises:
        InputError: a setting or the data cannot be used, or the split has no case.
    """
    config = load([], overrides, base=trained.settings)
    refuse_stray_ranks(config.trainer.num_nodes)
    _refuse_network_settings(load([], base=trained.settings), config, ensemble=bool(trained.members))
    if not trained.members:
        trained = _with_settings(config, trained)
    keep_freed_memory()
    make_folder(out)
    is_seen = trained.provenance.knows_any if split == "test" else None
    radiographs = _select(load_splits(config.data, out, is_seen=is_seen), split, trained)
    radiographs = first_batches(radiographs, config.trainer.limit_test_batches, getattr(config, trained.stage).fit.batch_size)
    if not radiographs.cases:
        remedy = "the model has seen all; give other radiographs" if split == UNSEEN else "change data.split, or choose another"
        raise InputError(f"split: {split} has no case; {remedy}")
    rank_zero_info(f"{trained.stage}: {len(radiographs.cases)} cases ({split})")
    trained.provenance.log_licences()
    return config, trained, radiographs


def _refuse_network_settings(own: Config, given: Config, *, ensemble: bool) -> None:
    fixed = (*NETWORK_SETTINGS, "crops") if ensemble else NETWORK_SETTINGS
    free = EVALUATION_SETTINGS[1:] if ensemble else EVALUATION_SETTINGS
    for key, (_, new) in differences(own, given).items():
        if key not in free and key.split(".")[0] in fixed:
            raise InputError(f"{key}={new}: a trained network has a fixed value; these can change: {', '.join(free)}")


def _with_settings(config: Config, trained: TrainedModel) -> TrainedModel:
    """Return the model with other crop settings and flip averaging; the given one stays as it is."""
    own = trained.model
    cropper = None if trained.locator is None else build_cropper(config, trained.locator)
    flip_average = config.estimator.flip_average
    model = BoneAgeModel(cropper, own.estimator, whole_px=own.whole_px, flip_average=flip_average, input_check=own.input_check)
    return trained._replace(model=with_lines(model.eval(), trained.lines))


def _select(splits: dict[str, Radiographs], split: str, trained: TrainedModel) -> Radiographs:
    every = next(iter(splits.values()))
    if split == UNSEEN:
        cases = [case for radiographs in splits.values() for case in radiographs.cases]
        rows = [row for radiographs in splits.values() for row in radiographs.row]
        every = every._replace(cases=cases, row=rows)
        return every.keep((~seen_cases(trained, every, split)).tolist())
    seen_cases(trained, splits[split], split)
    return splits[split]


def seen_cases(trained: TrainedModel, radiographs: Radiographs, split: str) -> np.ndarray:
    """Return which cases a model was trained or chosen on, and log how many there are and how it is known.

    Args:
        trained: the model.
        radiographs: to look up.
        split: theirs. The model's own training cases are expected in `train` and the cases that chose it in `val`.
    """
    provenance = trained.provenance
    for digest in provenance.unrecorded:
        rank_zero_info(f"weights with SHA-256 {digest[:12]}...: no record of their training cases")
    by_pixels = provenance.knows(radiographs, trained_only=split == "val")
    by_id = provenance.knows_id(radiographs)
    advice = "they are left out" if split == UNSEEN else "--split unseen leaves them out"
    if by_pixels.any() and split != "train":
        rank_zero_info(f"{by_pixels.sum()} of these cases were trained or chosen on; {advice}")
    if by_id.any() and split in ("test", UNSEEN):
        rank_zero_info(
            f"{by_id.sum()} of these cases have the id of a case that was trained or chosen on; {advice}. The model recorded "
            "ids alone: an equal id from another source counts as seen, the same radiograph under another id does not"
        )
    return by_pixels | by_id


def _data(config: Config, trained: TrainedModel, radiographs: Radiographs, split: str) -> HandDataModule:
    batch_size = getattr(config, trained.stage).fit.batch_size
    return evaluation_data(trained, {split: radiographs}, batch_size=batch_size, workers=config.data.workers, split=split)


def _compare(
    config: Config, trained: TrainedModel, radiographs: Radiographs, split: str, trainer: L.Trainer
) -> dict[str, dict[str, float | list[float]]]:
    compared = {}
    for method, mode, box_method in _combinations(trained):
        crops = replace(config.crops, cam_method=method, cam_mode=mode, box_method=box_method)
        variant = _with_settings(replace(config, crops=crops), trained)
        data, module = _data(config, variant, radiographs, split), EvaluationModule(variant.model)
        trainer.test(module, datamodule=data, verbose=False)
        compared[f"{method}/{mode}/{box_method}"] = localization(module.take_predictions(), region_names(data), split)
    return compared


def _combinations(trained: TrainedModel) -> Iterator[tuple[Any, Any, Any]]:
    assert trained.locator is not None
    for combination in itertools.product(CAM_METHODS, CAM_MODES, BOX_METHODS):
        if "class" not in combination or trained.locator.head.age.kind == "distribution":
            yield combination
