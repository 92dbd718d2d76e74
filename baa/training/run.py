"""A run: its stages in order, each taking over the best checkpoint of the one before."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.assembly.data import read_cohort, refuse_fewer_than_processes, refuse_untrainable
from baa.assembly.modules import (
    crop_arguments,
    estimator_module,
    joint_module,
    locator_module,
    recompute_backbones,
    take_weights,
)
from baa.assembly.trainer import build_trainer, compute_device, refuse_lacking
from baa.atomic_io import make_folder, read_json, write_whole
from baa.checkpoints.bundle import write_bundle
from baa.checkpoints.load import crop_recipe, restore
from baa.checkpoints.provenance import Lineage
from baa.config.load import to_plain
from baa.config.schema import Config, Optimisation
from baa.data.augment import Augmentation
from baa.data.cache import Radiographs
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.errors import InputError
from baa.evaluation.split import draw_curve, judge
from baa.machine import keep_freed_memory
from baa.modules.base import AgeModule
from baa.runtime.callbacks import LearningCurve, RunConfig
from baa.runtime.distributed import lost_another
from baa.runtime.preemption import Preempted, Preemption, Stop, StopAtOnce, listening
from baa.runtime.tracking import begin_trial, finish_run, mark_preempted, wandb_logger
from baa.training.cached_boxes import remember_boxes
from baa.training.compiling import Compile
from baa.training.finish import with_calibration
from baa.training.initial_weights import (
    Parent,
    cuts_crops,
    estimator_file,
    locator_file,
    offspring,
    parents,
    warn_of_cases_seen,
)
from baa.training.input_check import with_recogniser
from baa.training.profile import Profile
from baa.training.resume import FolderCheckpoint, SameStart, WholeFiles, newest_whole
from baa.training.run_folder import claimed
from baa.training.settling import noise, settled


def run(config: Config) -> dict[str, Any]:
    """Train every stage that is not yet finished, and return the run's metrics by stage.

    Raises:
        InputError: settings, data or an earlier run in the same folder that do not fit.
    """
    make_folder(config.folder)
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    with claimed(config), listening() as stop:
        if config.wandb.enabled:
            begin_trial(config)
        try:
            return _run_stages(config, stop)
        except Preempted as preempted:
            mark_preempted()
            rank_zero_info(f"{preempted.reason}; the same command goes on from here")
            raise
        except RuntimeError as error:
            if not (reason := lost_another(error)):
                raise
            raise InputError(
                f"another process of this job no longer answers ({reason}); its own error, if it had time for one, "
                "stands above or in its log, and the same command goes on"
            ) from error


def _run_stages(config: Config, stop: Stop) -> dict[str, Any]:
    refuse_lacking(config)
    cohort = read_cohort(config.data, config.folder)
    sizes = {split: len(radiographs.cases) for split, radiographs in cohort.items()}
    rank_zero_info("cases: " + ", ".join(f"{count} {split}" for split, count in sizes.items()))
    refuse_untrainable(cohort)
    given = parents(config)
    warn_of_cases_seen(config, cohort, given)
    metrics_file = config.folder / "metrics.json"
    for stage in config.stages:
        if stage in read_json(metrics_file):
            rank_zero_info(f"{stage}: finished in an earlier run, kept")
            continue
        result = _run_stage(stage, config, cohort, given, stop)
        rank_zero_only(write_whole)(metrics_file, json.dumps(read_json(metrics_file) | {stage: result}, indent=2))
    return read_json(metrics_file)


def _run_stage(
    stage: str, config: Config, cohort: dict[str, Radiographs], given: Sequence[Parent], stop: Stop
) -> dict[str, Any]:
    folder = config.folder / stage
    L.seed_everything(config.seed, workers=True, verbose=False)
    ages = torch.tensor([c.months for c in cohort["train"].cases if c.months is not None])
    scale = {"mean_months": float(ages.mean()), "std_months": float(ages.std().clamp(min=1.0))}
    fit = getattr(config, stage).fit
    module = _module(stage, config, scale).to(memory_format=torch.channels_last)
    begun = newest_whole(folder)
    if begun is None:
        take_weights(module, config, locator_file(config))
    else:
        into = f" and {begun.batches} batches" if begun.batches else ""
        rank_zero_info(f"{stage}: resumes after epoch {begun.epochs} of {fit.epochs}{into}")
    config = settled(stage, config, module, fit, begun)
    data = _data(stage, config, cohort, fit)
    rank_zero_info(f"{stage}: {sum(p.numel() for p in module.parameters()) / 1e6:.1f} M parameters, {fit.epochs} epochs")
    trainer = _trainer(stage, config, fit, offspring(config, cohort, given), stop)
    refuse_fewer_than_processes(cohort, trainer.world_size)
    if begun is not None:
        begun.refuse_others(trainer.world_size)
    trainer.fit(module, data, ckpt_path=begun and str(begun.file), weights_only=True)
    if trainer.is_global_zero:
        draw_curve(folder, stage)
    best = restore(folder / "best.ckpt")
    judging: HandDataModule = data
    if stage != "estimator":
        cropper, recipe = crop_recipe(folder / "best.ckpt", crop_arguments(config))
        judging = CropDataModule(cohort, cropper, recipe=recipe, batch_size=fit.batch_size, workers=config.data.workers)
    if isinstance(judging, CropDataModule):
        taken = restore(locator_file(config)).recogniser if stage == "estimator" else None
        device = trainer.strategy.root_device
        best = with_recogniser(best, cohort, device, folder / "best.ckpt", seed=config.seed, taken=taken)
        judging.recogniser = best.recogniser
    best = with_calibration(best, judging, trainer, folder / "best.ckpt")
    figures_to = _figure_loggers(config, trainer)
    metrics, _ = judge(best.module, judging, trainer, folder, calibration=best.calibration, figures_to=figures_to)
    if trainer.is_global_zero:
        write_bundle(folder / "bundle", best, cohort, metrics)
    if trainer.loggers:
        finish_run()
    return metrics


def _module(stage: str, config: Config, scale: dict[str, float]) -> AgeModule:
    module: AgeModule
    if stage == "locator":
        module = locator_module(config, scale)
    elif stage == "estimator":
        module = estimator_module(config, scale)
    else:
        joint = joint_module(config, estimator_file(config))
        rank_zero_info(f"joint: {joint.reach()}")
        module = joint
    if config.trainer.recompute:
        recompute_backbones(module)
    return module


def _data(stage: str, config: Config, cohort: dict[str, Radiographs], fit: Optimisation) -> HandDataModule:
    common: dict[str, Any] = {
        "batch_size": fit.batch_size,
        "workers": config.data.workers,
        "augment": Augmentation(**vars(config.data.augment), erase=getattr(config, stage).erase),
        "balance": config.data.balance,
        "hide_sex": config.data.hide_sex,
        "seed": config.seed,
    }
    if stage == "joint":
        return HandDataModule(cohort, **common)
    if not cuts_crops(stage, config):
        px = config.locator.px if stage == "locator" else config.estimator.whole_px
        return HandDataModule({split: radiographs.for_views(px) for split, radiographs in cohort.items()}, **common)
    cropper, recipe = crop_recipe(locator_file(config), crop_arguments(config))
    remembered = remember_boxes(cropper, recipe, cohort, config) if config.crops.boxes == "remembered" else None
    return CropDataModule(cohort, cropper, recipe=recipe, remembered=remembered, **common)


def _trainer(stage: str, config: Config, fit: Optimisation, seen: Lineage, stop: Stop) -> L.Trainer:
    folder = config.folder / stage
    callbacks: list[Callback] = [
        LearningCurve(folder / "metrics.csv"),
        RunConfig(stage, to_plain(config), seen),
        SameStart(),
        # The best before the last, which remembers how good the best was. (`save_last` would save only with a new best.)
        _checkpoint(folder, "best", monitor="val/mae"),
        _checkpoint(folder, "last", monitor=None),
    ]
    if fit.ema is not None:
        callbacks.append(EMAWeightAveraging(compute_device(config), decay=fit.ema))
    callbacks += [StopAtOnce(stop), Preemption(stop, folder / "last.ckpt")]  # after the weights were averaged
    if config.trainer.compile:
        callbacks.append(Compile(noise(config, fit)))
    if config.trainer.profile:
        callbacks.append(Profile(folder))
    return build_trainer(
        config,
        logger=wandb_logger(stage, config) if config.wandb.enabled else None,
        callbacks=callbacks,
        max_epochs=fit.epochs,
        limit_train_batches=fit.epoch_steps,
        accumulate_grad_batches=fit.accumulate,
        gradient_clip_val=fit.clip,
        plugins=[WholeFiles()],
        default_root_dir=folder,
    )


def _checkpoint(folder: Path, name: str, monitor: str | None) -> FolderCheckpoint:
    return FolderCheckpoint(folder, filename=name, monitor=monitor, save_on_train_epoch_end=True, enable_version_counter=False)


def _figure_loggers(config: Config, trainer: L.Trainer) -> list[Logger]:
    return list(trainer.loggers) if config.wandb.figures else []
