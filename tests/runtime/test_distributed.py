"""Rank, world size and devices, as the launcher sets them."""

import os

import pytest
import torch
from tiny_run import LAUNCHERS


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in os.environ:
        if name.startswith(LAUNCHERS):
            monkeypatch.delenv(name)


SLURM = {"SLURM_NTASKS": "6", "SLURM_NNODES": "2", "SLURM_PROCID": "4", "SLURM_LOCALID": "1", "SLURM_JOB_NAME": "fit"}
SLURM |= {"SLURM_NTASKS_PER_NODE": "3", "SLURM_STEP_ID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "RANK": "4", "LOCAL_RANK": "1"}


SCRIPT = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}  # of an sbatch script, without srun
TORCHRUN_IN_SRUN = TORCHRUN | {"SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "fit"}
FROM_SETTINGS = (0, 1), (8, 4)
FROM_LAUNCHER = (4, 6), (3, 2)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, FROM_SETTINGS),
        (SCRIPT, FROM_SETTINGS),
        (SLURM, FROM_LAUNCHER),
        (TORCHRUN, FROM_LAUNCHER),
        (TORCHRUN_IN_SRUN, FROM_LAUNCHER),
    ],
)
def test_the_launcher_sets_the_processes(variables, expected, monkeypatch):
    from baa.config.schema import TrainerConfig
    from baa.runtime.distributed import devices_and_nodes, rank_and_world_size

    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (rank_and_world_size(), devices_and_nodes(TrainerConfig(devices="8", num_nodes=4))) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLURM_NTASKS_PER_NODE": None}, "srun: .*--ntasks-per-node"),
        ({"SLURM_NTASKS": "7"}, "srun: 7 tasks do not divide evenly among 2 nodes; use --ntasks-per-node"),
    ],
)
def test_unsupported_options_of_srun_are_refused(changes, message, monkeypatch):
    from baa.errors import InputError
    from baa.runtime.distributed import rank_and_world_size

    for name, value in (SLURM | changes).items():
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        rank_and_world_size()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    from baa.assembly.trainer import build_trainer
    from baa.config.load import load
    from baa.errors import InputError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        InputError, match=r"trainer.devices: 8 processes on this node, but each has 2 visible GPUs; start fewer"
    ):
        build_trainer(load([], ["name=x", "trainer.devices=8"]), logger=None)


def test_a_lost_peer_differs_from_other_errors():
    from baa.runtime.distributed import lost_peer

    gone = "[.../gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.9.0.2]:41023"
    assert lost_peer(RuntimeError(gone)) == gone
    assert lost_peer(torch.distributed.DistBackendError("NCCL error\nncclComm was aborted on rank 1")) is not None
    assert lost_peer(torch.distributed.DistBackendError("NCCL error: Duplicate GPU detected")) is None
    assert lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
