"""Steps of srun, told by their variables: which they are, where they meet, which GPU each task has."""

import os

import pytest
import torch
from tiny_run import LAUNCHERS

from baa.errors import InputError

TASK = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_JOB_NAME": "fit",
    "SLURM_NODELIST": "n[1-4]",
    "SLURM_STEP_NODELIST": "n[3-4]",
}
SHELL = TASK | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
ONE = SHELL | {"SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "1"}


@pytest.fixture
def shell(monkeypatch):
    """Sets the variables of a process, without others of a launcher."""

    def set_variables(variables):
        for name in list(os.environ):
            if name.startswith(LAUNCHERS):
                monkeypatch.delenv(name)
        for name in ("MASTER_ADDR", "MASTER_PORT"):  # which Lightning sets
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize("name", ["fit", "bash", "interactive"])
def test_tasks_of_srun_are_those_of_a_job_of_any_name(name, shell):
    from baa.config.schema import TrainerConfig
    from baa.runtime.distributed import devices_and_nodes, rank_and_world_size

    shell(TASK | {"SLURM_JOB_NAME": name})  # salloc calls a job interactive, srun --pty bash calls it bash
    assert (rank_and_world_size(), devices_and_nodes(TrainerConfig())) == ((3, 4), (2, 2))


@pytest.mark.parametrize("variables", [SHELL, ONE | {"SLURM_JOB_NAME": "bash"}, ONE | {"SLURM_JOB_NAME": "interactive"}])
def test_the_shell_of_an_interactive_job_is_no_task(variables, shell):
    from baa.config.schema import TrainerConfig
    from baa.runtime.distributed import devices_and_nodes, launched

    shell(variables)
    assert launched() is None
    assert devices_and_nodes(TrainerConfig(devices="4")) == (4, 1)


def test_a_step_of_one_task_is_a_job_of_one_process(shell):
    from baa.runtime.distributed import rank_and_world_size

    shell(ONE)
    assert rank_and_world_size() == (0, 1)


@pytest.mark.parametrize(
    ("nodes", "first"), [("n[3-4]", "n3"), ("n7,n2", "n7"), ("n[9,1-2]", "n9"), ("gpu[04-05],n1", "gpu04"), ("n5", "n5")]
)
def test_a_step_meets_at_its_own_first_node(nodes, first, shell):
    from baa.runtime.distributed import launched

    shell(TASK | {"SLURM_STEP_NODELIST": nodes})
    assert launched().main_address == first


def test_two_steps_and_two_jobs_on_a_node_meet_at_different_ports(shell):
    from baa.runtime.distributed import launched

    ports = set()
    for job, step in (("4711", "0"), ("4711", "1"), ("14711", "0"), ("4712", "0")):
        shell(TASK | {"SLURM_JOB_ID": job, "SLURM_STEP_ID": step})
        ports.add(launched().main_port)
    assert len(ports) == 4
    assert all(15000 <= port < 32768 for port in ports)  # below the ports that the kernel gives away
    shell(TASK | {"MASTER_PORT": "29511"})
    assert launched().main_port == 29511


def trainer(*overrides):
    from baa.assembly.trainer import build_trainer
    from baa.config.load import load

    return build_trainer(load([], ["name=x", *overrides]), logger=None)


def test_another_number_of_devices_than_tasks_is_refused_with_both(shell):
    shell(ONE)
    with pytest.raises(InputError, match=r"devices: 8, but srun has started 1 per node \(SLURM_NTASKS=1, .*-per-node=8"):
        trainer("trainer.devices=8", "trainer.accelerator=cpu")


@pytest.fixture
def gpus(monkeypatch):
    def see(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


BOUND = [{"SLURM_GPUS_ON_NODE": "2"}, {"SLURM_GPUS_PER_TASK": "1"}, {"SLURM_GPU_BIND": "closest"}]
MIG = {"CUDA_VISIBLE_DEVICES": "MIG-3f6f389f", "SLURM_GPUS_PER_TASK": "1"}


@pytest.mark.parametrize("variables", [*BOUND, MIG])
def test_each_task_may_see_a_gpu_of_its_own(variables, shell, gpus):
    """Lightning would look for the GPU of the task's place on its node, of which there is none."""
    from baa.assembly.trainer import compute_device
    from baa.config.load import load
    from baa.runtime.distributed import environment_plugins, launched
    from baa.runtime.srun import has_own_gpu

    shell(TASK | variables)
    gpus(1)
    assert compute_device(load([], ["name=x"])) == torch.device("cuda", 0)
    assert has_own_gpu(launched(), 1)
    [environment] = environment_plugins(alone=True)
    environment.validate_settings(num_devices=1, num_nodes=4)
    assert (environment.global_rank(), environment.world_size()) == (3, 4)
    assert (environment.node_rank(), environment.local_rank()) == (3, 0)


def test_all_gpus_of_a_node_may_be_visible_to_each_task(shell, gpus):
    from baa.runtime.distributed import launched
    from baa.runtime.srun import has_own_gpu

    shell(TASK | {"SLURM_GPUS_ON_NODE": "2"})
    assert not has_own_gpu(launched(), 2)
    assert not has_own_gpu(None, 1)


@pytest.mark.parametrize("on_node", ["1", ""])
def test_more_tasks_than_gpus_of_a_node_are_refused_with_both(on_node, shell, gpus):
    shell(TASK | {"SLURM_GPUS_ON_NODE": on_node})
    gpus(1)
    with pytest.raises(
        InputError, match=r"srun: 2 tasks per node \(SLURM_NTASKS=4\), but each has 1 visible GPUs; use --ntasks-per"
    ):
        trainer()


def test_parts_of_a_gpu_are_shared_among_trials(monkeypatch, gpus):
    from baa.search.trials import resource_share

    gpus(1)  # torch sees one part of a GPU, whatever is visible
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b,MIG-c")
    assert [resource_share(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["MIG-a", "MIG-b", "MIG-c"]
