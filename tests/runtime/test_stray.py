"""Without a launcher a process is the first of its job, or it is refused in one line."""

import json
import os

import pytest
from tiny_run import LAUNCHERS, command

from baa.errors import InputError
from baa.runtime.stray import STARTED_BY, mark_processes, refuse_stray_ranks, unmark_processes

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "RANK": "4", "LOCAL_RANK": "1"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
BRIEF = ["locator.fit.epochs=1", "data.phantom.count=40", "trainer.accelerator=cpu"]


@pytest.fixture
def shell(monkeypatch):
    """Sets the variables of a shell, without others of a launcher."""
    for name in (*os.environ, STARTED_BY):
        if name.startswith((*LAUNCHERS, "NODE_", "GROUP_", "JSM_")):
            monkeypatch.delenv(name, raising=False)

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK", "NODE_RANK", "GROUP_RANK"])
@pytest.mark.parametrize("value", ["1", "07", "one", "-1"])
def test_the_rank_of_another_process_is_refused(shell, name, value):
    shell(**{name: value})
    with pytest.raises(InputError, match=f"^{name}={value}: .* neither torchrun nor srun started it; `unset {name}`, or start"):
        refuse_stray_ranks(1)


def test_what_says_first_or_nothing_is_forgotten(shell):
    shell(RANK="0", LOCAL_RANK="", WORLD_SIZE="4", NODE_RANK="0", MASTER_ADDR="10.0.0.9", SLURM_NTASKS="4")
    refuse_stray_ranks(1)
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR"} & os.environ.keys()


def test_a_job_of_several_nodes_may_be_started_by_hand(shell):
    shell(NODE_RANK="1", MASTER_ADDR="10.0.0.9")
    refuse_stray_ranks()
    refuse_stray_ranks(2)
    assert (os.environ["NODE_RANK"], os.environ["MASTER_ADDR"]) == ("1", "10.0.0.9")


@pytest.mark.parametrize("variables", [TORCHRUN, SRUN, {STARTED_BY: str(os.getppid()), "LOCAL_RANK": "1", "WORLD_SIZE": "2"}])
def test_processes_of_a_launcher_and_of_lightning_are_left_alone(shell, variables):
    shell(**variables)
    refuse_stray_ranks(1)
    assert variables.items() <= os.environ.items()


def test_a_job_marks_no_process_that_is_started_after_its_own(shell):
    shell()
    mark_processes()
    assert os.environ[STARTED_BY] == str(os.getpid())
    unmark_processes()
    assert STARTED_BY not in os.environ
    shell(**{STARTED_BY: str(os.getppid())})
    unmark_processes()
    assert os.environ[STARTED_BY] == str(os.getppid())


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            TORCHRUN | {"RANK": ""},
            "RANK: not set, although TORCHELASTIC_RUN_ID marks a process of torchrun; `unset",
        ),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "x"}, "LOCAL_WORLD_SIZE: x, although TORCHELASTIC_RUN_ID"),
        (SRUN | {"SLURM_NNODES": ""}, "SLURM_NNODES: not set, although SLURM_STEP_ID marks a process of srun"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}, "SLURM_PROCID=1: "),
        ({STARTED_BY: "1", "LOCAL_RANK": "1"}, "LOCAL_RANK=1: "),
    ],
)
def test_half_of_a_launcher_is_refused(shell, variables, message):
    shell(**variables)
    with pytest.raises(InputError, match=message):
        refuse_stray_ranks(1)


@pytest.mark.parametrize("variables", [{"RANK": "1"}, {"LOCAL_RANK": "one"}, {"SLURM_PROCID": "1", "SLURM_JOB_ID": "7"}])
def test_a_fit_in_such_a_shell_is_refused_in_one_line(tmp_path, variables):
    job = command(tmp_path, *BRIEF, **variables)
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 2
    assert output.startswith(f"baa: {next(iter(variables))}=")
    assert len(output.splitlines()) == 1
    assert not (tmp_path / "tiny").exists()


@pytest.mark.slow
def test_a_fit_of_two_processes_in_a_shell_of_an_old_job_writes_its_metrics(tmp_path):
    old = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "8", "MASTER_ADDR": "192.0.2.1", "NODE_RANK": "0"}
    job = command(tmp_path, *BRIEF, "trainer.devices=2", **old)
    output, _ = job.communicate(timeout=300)
    assert job.returncode == 0, output
    assert json.loads((tmp_path / "tiny" / "metrics.json").read_text())["locator"]["test/mae"] > 0
