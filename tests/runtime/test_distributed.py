"""How many processes there are, as whoever started them says."""

import os

import pytest
import torch
from tiny_run import LAUNCHERS


@pytest.fixture(autouse=True)
def _started_by_nobody(monkeypatch):
    for name in os.environ:
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)


SLURM = {"SLURM_NTASKS": "6", "SLURM_NNODES": "2", "SLURM_PROCID": "4", "SLURM_LOCALID": "1", "SLURM_JOB_NAME": "fit"}
SLURM |= {"SLURM_NTASKS_PER_NODE": "3", "SLURM_STEP_ID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "RANK": "4", "LOCAL_RANK": "1"}


SCRIPT = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}  # of sbatch, without srun
INSIDE = TORCHRUN | {"SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "fit"}
AS_SET = (0, 1), (8, 4)
AS_STARTED = (4, 6), (3, 2)


@pytest.mark.parametrize(
    ("started", "told"), [({}, AS_SET), (SCRIPT, AS_SET), (SLURM, AS_STARTED), (TORCHRUN, AS_STARTED), (INSIDE, AS_STARTED)]
)
def test_processes_are_those_that_were_started(started, told, monkeypatch):
    from baa.config.schema import Trainer
    from baa.runtime.distributed import devices_and_nodes, place_in_job

    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert (place_in_job(), devices_and_nodes(Trainer(devices="8", num_nodes=4))) == told


def test_tasks_that_lightning_cannot_place_are_refused_in_a_line(monkeypatch):
    from baa.errors import InputError
    from baa.runtime.distributed import place_in_job

    for name, value in (SLURM | {"SLURM_NTASKS_PER_NODE": ""}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(InputError, match="srun: .*--ntasks-per-node"):
        place_in_job()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    from baa.assembly.trainer import build_trainer
    from baa.config.load import load
    from baa.errors import InputError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="8 processes on this node and 2 GPUs that each sees"):
        build_trainer(load(None, ["name=x", "trainer.devices=8"]), logger=None)


def test_a_peer_that_is_gone_is_told_from_other_errors():
    from baa.runtime.distributed import lost_another

    gone = "[.../gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.9.0.2]:41023"
    assert lost_another(RuntimeError(gone)) == gone
    assert lost_another(torch.distributed.DistBackendError("NCCL error\nncclComm was aborted on rank 1")) is not None
    assert lost_another(torch.distributed.DistBackendError("NCCL error: Duplicate GPU detected")) is None
    assert lost_another(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
