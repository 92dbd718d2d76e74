"""How the processes of a job work together: rank, world size, validation, lost peers."""

import os
import re
from typing import Any

import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed import broadcast

from baa.config.schema import TrainerConfig
from baa.errors import InputError

CONNECTION_LOST = re.compile(r"closed by (the )?peer|reset by peer|timed out|aborted|broken pipe", re.IGNORECASE)
BACKEND = re.compile("gloo|nccl", re.IGNORECASE)


def launched() -> ClusterEnvironment | None:
    """The environment of the launcher, torchrun or srun; None if neither started this process.

    torchrun is checked first because srun may start it. The shell of a Slurm batch script also has Slurm's variables, but no
    step id.

    Raises:
        InputError: Lightning does not support the options of srun.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if "SLURM_STEP_ID" not in os.environ:
        return None
    try:
        environment = SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None  # the batch script requeues
    except (RuntimeError, ValueError) as error:
        raise InputError(f"srun: {error}") from error
    if environment and int(os.environ["SLURM_NTASKS"]) % int(os.environ["SLURM_NNODES"]):
        raise InputError(
            f"srun: {os.environ['SLURM_NTASKS']} tasks do not divide evenly among {os.environ['SLURM_NNODES']} nodes; "
            "use --ntasks-per-node"
        )
    return environment


def environment_plugins() -> list[ClusterEnvironment]:
    """Plugins for a trainer whose environment Lightning would detect wrongly."""
    if isinstance(environment := launched(), SLURMEnvironment):
        return [environment]
    return [LightningEnvironment()] if environment is None and "SLURM_NTASKS" in os.environ else []


def rank_and_world_size() -> tuple[int, int]:
    """The global rank of this process and the number of processes; (0, 1) without a launcher."""
    environment = launched()
    return (environment.global_rank(), environment.world_size()) if environment else (0, 1)


def devices_and_nodes(settings: TrainerConfig) -> tuple[int | str, int]:
    """The number of devices per node and of nodes: from the launcher if there is one, else from the settings."""
    environment = launched()
    if environment is None:
        return int(settings.devices) if settings.devices.isdigit() else settings.devices, settings.num_nodes
    if isinstance(environment, TorchElasticEnvironment):
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
    else:
        per_node = environment.world_size() // int(os.environ["SLURM_NNODES"])
    return per_node, environment.world_size() // per_node


def lost_peer(error: RuntimeError) -> str | None:
    """The line of an error that reports a lost peer process; None for any other error.

    It searches the message because some of these errors have no type of their own.
    """
    lines = [line.strip() for line in str(error).splitlines() if CONNECTION_LOST.search(line)]
    return lines[-1] if lines and BACKEND.search(str(error)) else None


class JobStrategy(DDPStrategy):
    """DDP whose processes may validate different numbers of batches.

    Lightning validates through torch's DDP wrapper, which broadcasts the batch norm buffers of the first process in every
    batch. Validation repeats no case, so one process may have one batch more than the others, and its broadcast would meet a
    different collective. This strategy broadcasts the buffers once, before the first batch.
    """

    def validation_step(self, batch: Any, batch_idx: int, *more: Any) -> Any:
        assert self.lightning_module is not None
        if batch_idx == 0:
            self._broadcast_buffers(self.lightning_module)
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(batch, batch_idx, *more)

    @staticmethod
    @torch.no_grad()
    def _broadcast_buffers(module: torch.nn.Module) -> None:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                broadcast(buffer, src=0)
