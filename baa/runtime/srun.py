"""Processes that srun has started: which steps count as such, where they meet, and which GPU each has."""

import os
from typing import Any

from lightning.fabric.plugins.environments import SLURMEnvironment

from baa.errors import InputError

SHELLS = ("bash", "interactive")
"""Names of jobs whose step is a shell, as `srun --pty bash` and `salloc` start it."""

FIRST_PORT, PORTS = 15000, 17000
PRIME = 31


def is_srun_step() -> bool:
    """Whether srun has started this process as a task, not the shell in which it was called.

    The shell of a batch script has Slurm's variables, but no step id. That of `salloc` or `srun --pty` is a step of one task.
    """
    if "SLURM_STEP_ID" not in os.environ or "SLURM_NTASKS" not in os.environ:
        return False
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", os.environ["SLURM_NTASKS"])
    if tasks != "1":
        return True
    return os.environ["SLURM_NTASKS"] == "1" and os.environ.get("SLURM_JOB_NAME") not in SHELLS


class SrunEnvironment(SLURMEnvironment):
    """Lightning's environment of srun, for steps of any name.

    Two steps of a job, or two jobs on a node, meet at different ports. The meeting point is the first node of the step, which
    need not be the first node of the job.

    Args:
        alone: each task sees its own GPU only, so to Lightning each is a node of its own.

    Raises:
        InputError: Lightning does not support the options of srun.
    """

    def __init__(self, *, alone: bool = False) -> None:
        try:
            super().__init__(auto_requeue=False)  # the batch script requeues
        except (RuntimeError, ValueError) as error:
            raise InputError(f"srun: {error}") from error
        self.alone = alone
        tasks, nodes = self.world_size(), int(os.environ["SLURM_NNODES"])
        if tasks % nodes:
            raise InputError(f"srun: {tasks} tasks do not divide evenly among {nodes} nodes; use --ntasks-per-node")
        self.tasks_per_node = tasks // nodes

    @staticmethod
    def detect() -> bool:
        return is_srun_step()

    @property
    def main_address(self) -> str:
        if "MASTER_ADDR" not in os.environ and (nodes := os.environ.get("SLURM_STEP_NODELIST")):
            os.environ["MASTER_ADDR"] = self.resolve_root_node_address(nodes)
        return super().main_address

    @property
    def main_port(self) -> int:
        job, step = (os.environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        if "MASTER_PORT" not in os.environ and job.isdigit() and step.isdigit():
            os.environ["MASTER_PORT"] = str(FIRST_PORT + (int(job) * PRIME + int(step)) % PORTS)
        return super().main_port

    def local_rank(self) -> int:
        return 0 if self.alone else super().local_rank()

    def node_rank(self) -> int:
        return self.global_rank() if self.alone else super().node_rank()

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Both come from srun."""


def refuse_other_devices(environment: Any, devices: str) -> None:
    """Refuse a number of processes per node that srun has not started.

    Args:
        environment: of the launcher.
        devices: the setting, `auto` or a number.

    Raises:
        InputError: srun has started more or fewer.
    """
    if isinstance(environment, SrunEnvironment) and devices.isdigit() and int(devices) != environment.tasks_per_node:
        raise InputError(
            f"trainer.devices: {devices}, but srun has started {environment.tasks_per_node} per node "
            f"(SLURM_NTASKS={os.environ['SLURM_NTASKS']}, SLURM_NNODES={os.environ['SLURM_NNODES']}); "
            f"start as many with --ntasks-per-node={devices}, or leave trainer.devices at auto"
        )


def has_own_gpu(environment: Any, visible: int) -> bool:
    """Whether each task of srun sees a GPU of its own, as with --gpus-per-task, --gpu-bind or MIG.

    Args:
        environment: of the launcher.
        visible: number of GPUs that this process sees.

    Raises:
        InputError: a node has more tasks than GPUs.
    """
    if not isinstance(environment, SrunEnvironment) or visible >= environment.tasks_per_node:
        return False
    on_node = os.environ.get("SLURM_GPUS_ON_NODE", "")
    bound = any(name in os.environ for name in ("SLURM_GPUS_PER_TASK", "SLURM_GPU_BIND", "SLURM_TRES_PER_TASK"))
    if visible == 1 and (bound or (on_node.isdigit() and int(on_node) >= environment.tasks_per_node)):
        return True
    raise InputError(
        f"srun: {environment.tasks_per_node} tasks per node (SLURM_NTASKS={os.environ['SLURM_NTASKS']}), but each has "
        f"{visible} visible GPUs; use --ntasks-per-node={visible}, or --gpus-per-node={environment.tasks_per_node}"
    )
