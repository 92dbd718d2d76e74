"""Settings to where a stage computes: its trainer, and its device before that has begun."""

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy

from baa.config.schema import Config
from baa.errors import InputError
from baa.runtime.distributed import devices_and_nodes, environment_plugins, launched
from baa.runtime.strategy import JobStrategy

AUTO: Final = "auto"
FULL: Final = "32-true"
HALF: Final = "bf16-mixed"
HALF_ON_GPUS: Final = "16-mixed"


def build_trainer(config: Config, logger: Logger | None, callbacks: Sequence[Callback] = (), **fit: Any) -> L.Trainer:
    """A trainer as `config.trainer` says, in fp32 where its precision is still `auto`.

    `fit` is Lightning's own words for what only a fit needs.

    Raises:
        InputError: batch norms to synchronise where torch cannot, or more GPUs asked for than this process sees.
    """
    if config.trainer.sync_batchnorm and compute_device(config).type == "cpu":
        raise InputError("trainer.sync_batchnorm is true; torch synchronises batch norms of GPUs only, and there is none here")
    devices, num_nodes = devices_and_nodes(config.trainer)
    if isinstance(devices, int) and compute_device(config).type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"{devices} processes on this node and {torch.cuda.device_count()} GPUs that each sees; start as many as there are "
            "(trainer.devices, torchrun's --nproc-per-node), and under Slurm ask for --gpus-per-node, not --gpus-per-task"
        )
    return _trainer(
        config,
        callbacks,
        devices=devices,
        num_nodes=num_nodes,
        strategy=_strategy(config, devices, num_nodes),
        deterministic=config.trainer.deterministic,
        sync_batchnorm=config.trainer.sync_batchnorm,
        logger=logger or False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        **fit,
    )


def build_lone_trainer(config: Config, callbacks: Sequence[Callback]) -> L.Trainer:
    """A trainer of this process alone, whatever others work beside it: on the GPU of its place among those of its node."""
    device = compute_device(config)
    devices = [device.index] if launched() and device.type == "cuda" else 1
    return _trainer(config, callbacks, devices=devices, strategy="auto", logger=False, enable_checkpointing=False)


def _trainer(config: Config, callbacks: Sequence[Callback], plugins: Sequence[Any] = (), **more: Any) -> L.Trainer:
    bar = [TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 20)] if config.trainer.progress else []
    return L.Trainer(
        accelerator=compute_device(config).type,
        precision=_precision(config),
        callbacks=[*callbacks, *bar],
        plugins=[*plugins, *environment_plugins()],
        enable_progress_bar=config.trainer.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **more,
    )


def _precision(config: Config) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """fp32 where nobody has measured, or where a CPU is to read what was trained in fp16."""
    asked = config.trainer.precision
    return FULL if asked == AUTO or (asked == HALF_ON_GPUS and compute_device(config).type == "cpu") else asked


def _strategy(config: Config, devices: int | str, num_nodes: int) -> str | Strategy:
    if isinstance(devices, str):
        devices = torch.cuda.device_count() if compute_device(config).type == "cuda" else 1
    if config.trainer.strategy == "ddp" or devices > 1 or num_nodes > 1:
        wait = timedelta(minutes=config.trainer.timeout)
        return JobStrategy(gradient_as_bucket_view=True, timeout=wait)  # a copy of all gradients less in each step
    return "auto"


def refuse_lacking(config: Config) -> None:
    """Refuse to train on a device, or in an arithmetic, that this machine does not have.

    Raises:
        InputError: a GPU is asked for and there is none, or fp16 on a CPU (where Lightning would take bf16).
    """
    if compute_device(config).type == "cpu" and config.trainer.precision == HALF_ON_GPUS:
        raise InputError("trainer.precision is 16-mixed, which needs a GPU, and this is a CPU; take bf16-mixed or auto")


def compute_device(config: Config) -> torch.device:
    """Of this process: a GPU if there is one and `trainer.accelerator` does not rule it out, else the CPU.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    if config.trainer.accelerator == "cpu" or not torch.cuda.is_available():
        if config.trainer.accelerator == "gpu":
            raise InputError("trainer.accelerator is gpu; torch sees none here, take auto or cpu")
        return torch.device("cpu")
    place = launched()
    local = place.local_rank() if place else int(os.environ.get("LOCAL_RANK", "0"))  # which Lightning tells those it starts
    return torch.device("cuda", local % torch.cuda.device_count())
