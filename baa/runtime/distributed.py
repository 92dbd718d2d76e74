"""How the processes of a job work together: rank, world size, validation, lost peers."""

import atexit
import os
import re
import sys
import threading
from typing import Any

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed import DistNetworkError, DistStoreError, broadcast

from baa.config.schema import TrainerConfig
from baa.runtime.elastic import attempt_store, has_agent_store
from baa.runtime.srun import SrunEnvironment
from baa.runtime.stray import unmark_processes

CONNECTION_LOST = re.compile(r"closed by (the )?peer|reset by peer|timed out|aborted|broken pipe", re.IGNORECASE)
GRACE_SECONDS = 10.0
"""Time that torch has, after its own timeout, to report what has not answered."""

BACKEND = re.compile("gloo|nccl", re.IGNORECASE)


def launched() -> ClusterEnvironment | None:
    """The environment of the launcher, torchrun or srun; None if neither started this process.

    torchrun is checked first because srun may start it.

    Raises:
        InputError: Lightning does not support the options of srun.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    return SrunEnvironment() if SrunEnvironment.detect() else None


def environment_plugins(*, alone: bool) -> list[ClusterEnvironment]:
    """Plugins for a trainer: Lightning would find launchers that have not started this process, such as Slurm or MPI.

    Args:
        alone: each task of srun sees its own GPU only.
    """
    return [SrunEnvironment(alone=True) if alone else launched() or LightningEnvironment()]


def rank_and_world_size() -> tuple[int, int]:
    """The global rank of this process and the number of processes; (0, 1) without a launcher."""
    environment = launched()
    return (environment.global_rank(), environment.world_size()) if environment else (0, 1)


def devices_and_nodes(settings: TrainerConfig) -> tuple[int | str, int]:
    """The number of devices per node and of nodes: from the launcher if there is one, else from the settings."""
    environment = launched()
    if environment is None:
        return int(settings.devices) if settings.devices.isdigit() else settings.devices, settings.num_nodes
    per_node = environment.tasks_per_node if isinstance(environment, SrunEnvironment) else int(os.environ["LOCAL_WORLD_SIZE"])
    return per_node, environment.world_size() // per_node


def job_fault(error: RuntimeError) -> str | None:
    """One line about a process of the job that never came or was lost, or about a taken port; None for any other error."""
    if "EADDRINUSE" in str(error):
        return f"MASTER_PORT: {os.environ.get('MASTER_PORT')} is in use on this machine; set it to a free port, on all nodes"
    if not (reason := lost_peer(error)):
        return None
    return (
        f"another process of this job does not respond ({reason}); see its own error above or in its log, "
        "then run the same command to continue"
    )


def lost_peer(error: RuntimeError) -> str | None:
    """The line of an error that reports a peer process that was lost or never came; None for any other error.

    It searches the message because some of these errors have no type of their own.
    """
    if isinstance(error, DistNetworkError | DistStoreError):  # before the first step
        return str(error).strip().partition("\n")[0]
    lines = [line.strip() for line in str(error).splitlines() if CONNECTION_LOST.search(line)]
    return lines[-1] if lines and BACKEND.search(str(error)) else None


def _end_alone() -> None:
    reason = "no answer; check that no other program uses MASTER_PORT"
    sys.stderr.write(f"baa: another process of this job does not respond ({reason})\n")
    sys.stderr.flush()
    os._exit(2)  # the main thread waits in torch, where no exception reaches it


class JobStrategy(DDPStrategy):
    """DDP whose processes may validate different numbers of batches.

    Lightning validates through torch's DDP wrapper, which broadcasts the batch norm buffers of the first process in every
    batch. Validation repeats no case, so one process may have one batch more than the others, and its broadcast would meet a
    different collective. This strategy broadcasts the buffers once, before the first batch.

    The processes of torchrun meet in the store of one attempt; Lightning would let them meet where dead processes have met.

    A process that connects to a port where another program listens would wait for its answer for ever. This strategy ends the
    process.
    """

    def setup_environment(self) -> None:
        assert self._timeout is not None
        unmark_processes()  # they are started
        overdue = threading.Timer(self._timeout.total_seconds() + GRACE_SECONDS, _end_alone)
        overdue.daemon = True
        overdue.start()
        try:
            super().setup_environment()
        finally:
            overdue.cancel()

    def setup_distributed(self) -> None:
        if has_agent_store() and not torch.distributed.is_initialized():
            assert self.cluster_environment is not None
            assert self._timeout is not None
            backend = self._get_process_group_backend()
            rank, world_size = self.cluster_environment.global_rank(), self.cluster_environment.world_size()
            torch.distributed.init_process_group(
                backend,
                store=attempt_store(rank, world_size, self._timeout),
                rank=rank,
                world_size=world_size,
                timeout=self._timeout,
                device_id=None if self.root_device.type == "cpu" else self.root_device,
            )
            if backend == "nccl":  # as Lightning does for a group that it makes
                atexit.register(torch.distributed.destroy_process_group)
        super().setup_distributed()

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
