"""The processes of a job: how many there are, which one this is, and when another one is gone."""

import os
import re

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from baa.config.schema import Trainer
from baa.errors import InputError

LOST = re.compile(r"closed by (the )?peer|reset by peer|timed out|aborted|broken pipe", re.IGNORECASE)


def launched() -> ClusterEnvironment | None:
    """What torchrun or srun, if one of them has started this process, says of its place among the others.

    torchrun goes first: it may itself be started by srun. A script's shell has Slurm's variables too, but no step.

    Raises:
        InputError: srun was told something that Lightning does not take.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if "SLURM_STEP_ID" not in os.environ:
        return None
    try:
        environment = SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None  # the script queues it again
    except (RuntimeError, ValueError) as error:
        raise InputError(f"srun: {error}") from error
    if environment and int(os.environ["SLURM_NTASKS"]) % int(os.environ["SLURM_NNODES"]):
        raise InputError(
            f"srun: {os.environ['SLURM_NTASKS']} tasks on {os.environ['SLURM_NNODES']} nodes; give all nodes as many"
        )
    return environment


def environment_plugins() -> list[ClusterEnvironment]:
    """What a trainer is told of its environment where it would guess otherwise."""
    if isinstance(environment := launched(), SLURMEnvironment):
        return [environment]
    return [LightningEnvironment()] if environment is None and "SLURM_NTASKS" in os.environ else []


def place_in_job() -> tuple[int, int]:
    """Of this process, and the number of processes."""
    environment = launched()
    return (environment.global_rank(), environment.world_size()) if environment else (0, 1)


def devices_and_nodes(settings: Trainer) -> tuple[int | str, int]:
    """How many on each node, and how many nodes: as torchrun or srun has started them, else as the settings say."""
    environment = launched()
    if environment is None:
        return int(settings.devices) if settings.devices.isdigit() else settings.devices, settings.num_nodes
    if isinstance(environment, TorchElasticEnvironment):
        per_node = int(os.environ["LOCAL_WORLD_SIZE"])
    else:
        per_node = environment.world_size() // int(os.environ["SLURM_NNODES"])
    return per_node, environment.world_size() // per_node


def lost_another(error: RuntimeError) -> str | None:
    """What an error says of another process of the job that no longer answers; None if it speaks of something else.

    (Some of these errors have no type of their own.)
    """
    lines = [line.strip() for line in str(error).splitlines() if LOST.search(line)]
    return lines[-1] if lines and re.search("gloo|nccl", str(error), re.IGNORECASE) else None
