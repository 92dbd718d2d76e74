"""Settings to where a stage computes: its trainer, and its device before that has begun."""

import sys
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy, Strategy

from baa.errors import InputError
from baa.schema import Config
from baa.training.precision import AUTO, FULL


def build_trainer(config: Config, logger: Logger | None, callbacks: Sequence[Callback] = (), **fit: Any) -> L.Trainer:
    """A trainer as `config.trainer` says, in fp32 where its precision is still `auto`.

    `fit` is Lightning's own words for what only a fit needs.

    Raises:
        InputError: batch norms to synchronise where torch cannot.
    """
    if config.trainer.sync_batchnorm and compute_device(config).type == "cpu":
        raise InputError("trainer.sync_batchnorm is true; torch synchronises batch norms of GPUs only, and there is none here")
    bar = [TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 20)] if config.trainer.progress else []
    return L.Trainer(
        accelerator=config.trainer.accelerator,
        devices=int(config.trainer.devices) if config.trainer.devices.isdigit() else config.trainer.devices,
        num_nodes=config.trainer.nodes,
        strategy=_strategy(config),
        precision=FULL if config.trainer.precision == AUTO else config.trainer.precision,
        deterministic=config.trainer.deterministic,
        sync_batchnorm=config.trainer.sync_batchnorm,
        callbacks=[*callbacks, *bar],
        logger=logger or False,
        enable_progress_bar=config.trainer.progress,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **fit,
    )


def _strategy(config: Config) -> str | Strategy:
    devices = config.trainer.devices
    count = int(devices) if devices.isdigit() else torch.cuda.device_count() if config.trainer.accelerator != "cpu" else 1
    several = count > 1 or config.trainer.nodes > 1
    if config.trainer.strategy == "ddp" or (config.trainer.strategy == "auto" and several):
        return DDPStrategy(gradient_as_bucket_view=True)  # a copy of all gradients less in each step
    return config.trainer.strategy


def compute_device(config: Config) -> torch.device:
    """The GPU if there is one and `trainer.accelerator` does not rule it out, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
