"""A run: its stages in order, each starting from the best model of the one before."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.assembly.data import first_batches, load_splits, refuse_fewer_than_processes, refuse_untrainable
from baa.assembly.modules import (
    Networks,
    build_cropper,
    estimator_arguments,
    estimator_module,
    joint_module,
    locator_arguments,
    locator_module,
    prepare,
)
from baa.assembly.small_inputs import refuse_small_inputs
from baa.assembly.trainer import build_trainer, compute_device, profiler, settle_precision
from baa.atomic_io import make_folder, read_json, write_atomic
from baa.checkpoints.load import provenance_of
from baa.checkpoints.provenance import joined, own_provenance
from baa.config.load import to_plain
from baa.config.networks import SCALE
from baa.config.schema import Config, FitConfig
from baa.data.augment import Augmentation
from baa.data.cache import Radiographs
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.data.sources import SOURCES
from baa.errors import InputError, one_line
from baa.machine import keep_freed_memory
from baa.modules.base import AgeRegressionModule
from baa.runtime.callbacks import CheckpointRecord, LearningCurve
from baa.runtime.checkpoint_io import AtomicCheckpointIO, CheckSameStart, FolderCheckpoint
from baa.runtime.cost import COST, Cost
from baa.runtime.distributed import job_fault, rank_and_world_size
from baa.runtime.preemption import ExitOnSignal, Preempted, Preemption, SignalHandler, handle_signals
from baa.runtime.stray import refuse_stray_ranks
from baa.runtime.tracking import begin_tracking, end_stopped_run, finish_run, keep_bundle, wandb_logger
from baa.runtime.weight_average import ExponentialAverage
from baa.training.cached_boxes import cache_boxes
from baa.training.finish import finish_stage
from baa.training.finished import is_finished, record_files
from baa.training.initial_weights import SourceModels, take_weights
from baa.training.resume import CASES, find_resume_point
from baa.training.run_folder import METRICS, begun_stages, keep_precision, locked_run_folder
from baa.training.seen_cases import RunCases, log_seen_cases
from baa.training.start import as_started


def run(config: Config) -> dict[str, Any]:
    """Train every stage that is not yet finished.

    Returns:
        The run's metrics by stage; none with `trainer.fast_dev_run`.

    Raises:
        InputError: settings, data or an earlier run in the same folder that do not fit.
        Preempted: a signal stopped it.
    """
    refuse_stray_ranks(config.trainer.num_nodes)
    if config.trainer.fast_dev_run:
        return _try_out(config)
    make_folder(config.folder)
    keep_freed_memory()
    torch.set_float32_matmul_precision("high")
    config = settle_precision(keep_precision(config))
    with locked_run_folder(config) as longer, handle_signals() as signals:
        if config.wandb.enabled:
            begin_tracking(config)
        try:
            return _run_stages(config, signals, longer)
        except Preempted as preempted:
            end_stopped_run(preempted.signum)
            rank_zero_info(f"{preempted.reason}; run the same command to continue")
            raise
        except InputError as error:
            raise one_line(error) from error
        except RuntimeError as error:
            if (fault := job_fault(error)) is None:
                raise
            raise InputError(fault) from error


def _try_out(config: Config) -> dict[str, Any]:
    """Run all stages on two batches for an epoch, in a folder that is deleted: Lightning's `fast_dev_run` for a whole run.

    (Lightning's own flag writes no checkpoint, from which the next stage starts.)
    """
    if rank_and_world_size()[1] > 1:
        raise InputError("trainer.fast_dev_run: it runs in one process; start one, or give trainer.limit_train_batches")
    batch = max(getattr(config, stage).fit.batch_size for stage in config.stages)
    stages = {stage: getattr(config, stage) for stage in config.stages}
    brief: dict[str, Any] = {name: replace(stage, fit=replace(stage.fit, epochs=1)) for name, stage in stages.items()}
    with TemporaryDirectory(prefix="baa-") as folder:
        brief |= {
            "runs": folder,
            "data": replace(config.data, limit=2 * batch),
            "trainer": replace(config.trainer, fast_dev_run=False, devices="1", num_nodes=1),
            "wandb": replace(config.wandb, enabled=False),
        }
        run(replace(config, **brief))
    rank_zero_info(f"fast_dev_run: {' and '.join(config.stages)} work; nothing was kept")
    return {}


def _run_stages(config: Config, signals: SignalHandler, longer: str | None) -> dict[str, Any]:
    refuse_small_inputs(config)
    sources = SourceModels(config)
    splits = load_splits(config.data, config.folder)
    sizes = {split: len(radiographs.cases) for split, radiographs in splits.items()}
    rank_zero_info("cases: " + ", ".join(f"{count} {split}" for split, count in sizes.items()))
    refuse_untrainable(splits)
    log_seen_cases(sources.provenance(config.stages), splits)
    cases, metrics_file = RunCases(config.folder, splits), config.folder / METRICS
    begun = begun_stages(config.folder)
    if not cases.file.exists():
        for stage in begun:
            if (point := find_resume_point(config.folder / stage)) is not None:
                point.refuse_other_cases(cases.digest)
    cases.keep(begun=bool(begun or read_json(metrics_file)))
    for stage in config.stages:
        if stage != longer and is_finished(config.folder / stage, metrics_file):
            rank_zero_info(f"{stage}: finished in an earlier run, kept")
            continue
        result = _run_stage(stage, config, splits, cases.digest, sources, signals)
        rank_zero_only(write_atomic)(metrics_file, json.dumps(read_json(metrics_file) | {stage: result}, indent=2))
    return read_json(metrics_file)


def _run_stage(
    stage: str, config: Config, splits: dict[str, Radiographs], cases: str, sources: SourceModels, signals: SignalHandler
) -> dict[str, Any]:
    folder, fit = config.folder / stage, getattr(config, stage).fit
    splits = splits | {"test": first_batches(splits["test"], config.trainer.limit_test_batches, fit.batch_size)}
    config = as_started(stage, config, sources)
    L.seed_everything(config.seed, workers=True, verbose=False)
    module, networks = _module(stage, config, splits, sources)
    resume_point = find_resume_point(folder)
    reads_crops = stage == "estimator" and _reads_crops(config)
    if resume_point is None:
        take_weights(module, config, sources)
    else:
        resume_point.refuse_other_cases(cases)
        resume_point.refuse_other_start(networks, sources.locator_source() if reads_crops else {})
        resume_point.refuse_other_shapes(module)
        into = f" and {resume_point.batches} batches" if resume_point.batches else ""
        rank_zero_info(f"{stage}: resumes after epoch {resume_point.epochs} of {fit.epochs}{into}")
    prepare(module, config)
    data = _data(stage, config, splits, sources)
    rank_zero_info(f"{stage}: {sum(p.numel() for p in module.parameters()) / 1e6:.1f} M parameters, {fit.epochs} epochs")
    own = own_provenance(splits, SOURCES[config.data.source].licence)
    before = [] if resume_point is None else [provenance_of(resume_point.record)]
    provenance = joined([own, sources.provenance([stage]), *before])
    record = {
        "stage": stage,
        "settings": to_plain(config),
        "networks": networks,
        "licences": list(provenance.licences),
        "unrecorded": list(provenance.unrecorded),
        CASES: cases,
        **provenance.tensors(),
    }
    cost = Cost()
    trainer = _trainer(stage, config, fit, record, signals, cost)
    refuse_fewer_than_processes(splits, trainer.world_size)
    if resume_point is not None:
        resume_point.refuse_other_world_size(trainer.world_size)
    trainer.fit(module, data, ckpt_path=resume_point and str(resume_point.file), weights_only=True)
    check = sources.locator().model.input_check if isinstance(data, CropDataModule) else None
    figure_loggers = list(trainer.loggers) if config.wandb.figures else []
    trained, metrics = finish_stage(stage, config, splits, trainer, check, figure_loggers)
    cost.write(trainer, folder / COST)
    rank_zero_only(record_files)(folder)
    sources.add(stage, trained)
    if config.wandb.enabled and config.wandb.artifacts:
        keep_bundle(folder / "bundle", f"{config.name}-{stage}")
    if trainer.loggers:
        finish_run()
    return metrics


def _module(
    stage: str, config: Config, splits: dict[str, Radiographs], sources: SourceModels
) -> tuple[AgeRegressionModule, Networks]:
    """Build the module of a stage; also return the arguments of the networks that its checkpoint will hold."""
    ages = torch.tensor([case.months for case in splits["train"].cases if case.months is not None])
    scale = {"mean_months": float(ages.mean()), "std_months": float(ages.std().clamp(min=1.0))}
    if config.weights and stage != "joint":  # which come with the scale of their ages
        source = sources.loaded[sources.named["weights"]].networks[stage]
        scale = {name: source.get(name, default) for name, default in SCALE.items()}
    if stage == "locator":
        networks = {"locator": locator_arguments(config, **scale)}
        return locator_module(config, networks["locator"]), networks
    if stage == "estimator":
        networks = {"estimator": estimator_arguments(config, **scale)}
        if _reads_crops(config):
            networks = {"locator": sources.locator().networks["locator"], **networks}
        return estimator_module(config, networks["estimator"]), networks
    start, setting = sources.estimator()
    joint = joint_module(config, start, setting)
    rank_zero_info(f"joint: {joint.describe_gradients()}")
    return joint, start.networks


def _reads_crops(config: Config) -> bool:
    return set(config.estimator.streams) != {"whole"}


def _data(stage: str, config: Config, splits: dict[str, Radiographs], sources: SourceModels) -> HandDataModule:
    settings: dict[str, Any] = {
        "batch_size": getattr(config, stage).fit.batch_size,
        "workers": config.data.workers,
        "timeout": config.trainer.timeout * 60,
        "augment": Augmentation(**vars(config.data.augment), random_erasing_p=getattr(config, stage).random_erasing_p),
        "balance": config.data.balance,
        "sex_dropout": config.data.sex_dropout,
        "seed": config.seed,
    }
    if stage == "joint":
        return HandDataModule(splits, **settings)
    if stage == "locator" or not _reads_crops(config):
        px = config.locator.px if stage == "locator" else config.estimator.whole_px
        return HandDataModule({split: radiographs.for_views(px) for split, radiographs in splits.items()}, **settings)
    locator, source = sources.locator().locator, sources.locator_source()
    assert locator is not None
    cropper = build_cropper(config, locator)
    cached = cache_boxes(cropper, source, splits, config) if config.crops.boxes == "cached" else None
    return CropDataModule(splits, cropper, locator_source=source, cached_boxes=cached, **settings)


def _trainer(
    stage: str, config: Config, fit: FitConfig, record: dict[str, Any], signals: SignalHandler, cost: Cost
) -> L.Trainer:
    folder = config.folder / stage
    callbacks: list[Callback] = [
        LearningCurve(folder / "metrics.csv", f"{stage}.fit"),
        cost,
        CheckpointRecord(record),
        CheckSameStart(),
        # The best before the last, which records how good the best was. (`save_last` would save only with a new best.)
        _checkpoint(folder, "best", monitor="val/mae"),
        _checkpoint(folder, "last", monitor=None),
    ]
    if fit.ema is not None:
        callbacks.append(ExponentialAverage(compute_device(config), fit.ema))
    callbacks += [
        ExitOnSignal(signals),
        Preemption(signals, folder / "last.ckpt", config.trainer.signal_every),
    ]  # after weight averaging
    logger = wandb_logger(stage, config) if config.wandb.enabled else None
    if logger is not None:
        logger.start()  # not in the middle of a fit, where other processes would wait for this one
    return build_trainer(
        config,
        logger=logger,
        callbacks=callbacks,
        max_epochs=fit.epochs,
        limit_train_batches=config.trainer.limit_train_batches,
        limit_val_batches=config.trainer.limit_val_batches,
        overfit_batches=config.trainer.overfit_batches,
        accumulate_grad_batches=fit.accumulate_grad_batches,
        gradient_clip_val=fit.gradient_clip_val,
        profiler=profiler(folder) if config.trainer.profile else None,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
    )


def _checkpoint(folder: Path, name: str, monitor: str | None) -> FolderCheckpoint:
    return FolderCheckpoint(folder, filename=name, monitor=monitor, save_on_train_epoch_end=True, enable_version_counter=False)
