"""Settings to a Lightning trainer, and to the device and precision of this process."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PyTorchProfiler
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities import rank_zero_info

from baa.config.schema import Config, Precision
from baa.errors import InputError
from baa.runtime.distributed import JobStrategy, devices_and_nodes, environment_plugins, launched
from baa.runtime.srun import has_own_gpu, refuse_other_devices
from baa.runtime.stray import mark_processes

AUTO: Final = "auto"
FULL: Final = "32-true"
HALF: Final = "bf16-mixed"
HALF_ON_GPUS: Final = "16-mixed"


def build_trainer(config: Config, logger: Logger | None, callbacks: Sequence[Callback] = (), **fit: Any) -> L.Trainer:
    """Build a trainer.

    Args:
        config: the run's settings.
        logger: None logs nowhere.
        callbacks: ours.
        fit: what only a fit needs, in Lightning's words.

    Raises:
        InputError: batch norms to synchronize on a CPU, more GPUs asked for than this process sees, or other processes than
            srun has started.
    """
    device = compute_device(config)
    if config.trainer.sync_batchnorm and device.type == "cpu":
        raise InputError(
            "trainer.sync_batchnorm: torch synchronizes batch norms on GPUs only, and this is a CPU; set it to false"
        )
    refuse_other_devices(launched(), config.trainer.devices)
    devices, num_nodes = devices_and_nodes(config.trainer)
    alone = device.type == "cuda" and has_own_gpu(launched(), torch.cuda.device_count())
    if alone:
        devices, num_nodes = 1, num_nodes * int(devices)
    if isinstance(devices, int) and device.type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"trainer.devices: {devices} processes on this node, but each has {torch.cuda.device_count()} visible GPUs; "
            "start fewer (trainer.devices, torchrun's --nproc-per-node)"
        )
    bar = [TQDMProgressBar(refresh_rate=1 if sys.stderr.isatty() else 20)] if config.trainer.progress else []
    return L.Trainer(
        accelerator=device.type,
        devices=devices,
        num_nodes=num_nodes,
        strategy=_strategy(config, devices, num_nodes),
        precision=resolve_precision(config.trainer.precision, device),
        deterministic=config.trainer.deterministic,
        sync_batchnorm=config.trainer.sync_batchnorm,
        logger=logger or False,
        callbacks=[*callbacks, *bar],
        plugins=[*fit.pop("plugins", []), *environment_plugins(alone=alone)],
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=config.trainer.progress,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **fit,
    )


def profiler(folder: Path) -> PyTorchProfiler:
    """Build Lightning's PyTorch profiler: a trace of a few steps and a table of costs, in `folder`."""
    return PyTorchProfiler(dirpath=folder, filename="profile")


def resolve_precision(precision: Precision, device: torch.device) -> Any:
    """Resolve `auto`: fp32 on CPUs, bfloat16 on CUDA GPUs that have it.

    A model trained in fp16 on GPUs computes in fp32 on a CPU.
    """
    if precision == AUTO:
        has_half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return HALF if has_half else FULL
    return FULL if precision == HALF_ON_GPUS and device.type == "cpu" else precision


def settle_precision(config: Config) -> Config:
    """Replace `auto` precisions by what they are on this machine, and print them.

    Raises:
        InputError: fp16 on a CPU, or a GPU that does not exist.
    """
    device = compute_device(config)
    if device.type == "cpu" and config.trainer.precision == HALF_ON_GPUS:
        raise InputError("trainer.precision: 16-mixed needs a GPU, and this is a CPU; give bf16-mixed or auto")
    precision = resolve_precision(config.trainer.precision, device)
    looking = config.crops.precision if config.crops.precision != AUTO else (HALF if precision == HALF else FULL)
    if AUTO in (config.trainer.precision, config.crops.precision):
        rank_zero_info(f"precision on {device.type}: trainer {precision}, locator of crops {looking}")
    return replace(config, trainer=replace(config.trainer, precision=precision), crops=replace(config.crops, precision=looking))


def _strategy(config: Config, devices: int | str, num_nodes: int) -> str | Strategy:
    if isinstance(devices, str):
        devices = torch.cuda.device_count() if compute_device(config).type == "cuda" else 1
    if devices > 1 or num_nodes > 1:
        mark_processes()
        wait = timedelta(minutes=config.trainer.timeout)
        return JobStrategy(gradient_as_bucket_view=True, timeout=wait)  # saves one copy of all gradients per step
    return "auto"


def compute_device(config: Config) -> torch.device:
    """Return the device of this process: a GPU if there is one and `trainer.accelerator` allows it, else the CPU.

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    if config.trainer.accelerator == "cpu" or not torch.cuda.is_available():
        if config.trainer.accelerator == "gpu":
            raise InputError("trainer.accelerator: gpu, but no GPU is available; give auto or cpu")
        return torch.device("cpu")
    environment = launched()
    local = environment.local_rank() if environment else int(os.environ.get("LOCAL_RANK", "0"))  # Lightning sets it
    return torch.device("cuda", local % torch.cuda.device_count())
