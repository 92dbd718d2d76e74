"""The processes of a job: how many there are, which one this is, and when another one is gone."""

import os
import re

from lightning.fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from torch.distributed import DistError

from baa.errors import InputError
from baa.schema import Trainer

LOST = re.compile(r"gloo|nccl", re.IGNORECASE)


def launched() -> ClusterEnvironment | None:
    """What torchrun or srun, if one of them has started this process, says of its place among the others.

    Raises:
        InputError: srun was told something that Lightning does not take.
    """
    try:
        found = [environment() for environment in (TorchElasticEnvironment, SLURMEnvironment) if environment.detect()]
    except RuntimeError as error:
        raise InputError(f"srun: {error}") from error
    return found[0] if found else None


def place_in_job() -> tuple[int, int]:
    """Of this process, and the number of processes."""
    environment = launched()
    return (environment.global_rank(), environment.world_size()) if environment else (0, 1)


def processes(settings: Trainer) -> tuple[int | str, int]:
    """How many on each node, and how many nodes: as torchrun or srun has started them, else as the settings say."""
    environment = launched()
    if isinstance(environment, TorchElasticEnvironment):
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
    elif environment is not None:
        per_node = int(os.environ["SLURM_NTASKS"]) // int(os.environ["SLURM_NNODES"])
    if environment is not None:
        return per_node, environment.world_size() // per_node
    return int(settings.devices) if settings.devices.isdigit() else settings.devices, settings.num_nodes


def lost_another(error: RuntimeError) -> bool:
    """Whether an error says that another process of the job no longer answers. (gloo's have no type of their own.)"""
    return isinstance(error, DistError) or bool(LOST.search(str(error)))
