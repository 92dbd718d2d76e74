"""The processes of a job that do not meet: a node that never comes, a port in use. Each ends with one line in time."""

import contextlib
import socket
from datetime import timedelta

import pytest
import torch
from tiny_run import command

from baa.runtime.distributed import job_fault

SECONDS = timedelta(seconds=2)
JOB = ["trainer.num_nodes=2", "trainer.devices=1", "trainer.accelerator=cpu", "trainer.timeout=0.1"]
NO_ANSWER = "another process of this job does not respond ("


@contextlib.contextmanager
def port(*, listening):
    """A port, at which nobody listens, or somebody who never answers."""
    with socket.socket() as one:
        one.bind(("", 0))
        if listening:
            one.listen()
        else:
            one.close()
        yield one.getsockname()[1] if listening else free_port()


def free_port():
    with socket.socket() as one:
        one.bind(("", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize(
    ("listening", "is_master", "line"),
    [
        (False, True, f"{NO_ANSWER}Timed out after"),
        (False, False, NO_ANSWER),
        (True, True, "MASTER_PORT: 29511 is in use on this machine; set it to a free port, on all nodes"),
    ],
)
def test_each_error_of_a_meeting_that_fails_is_one_line(listening, is_master, line, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "29511")
    with port(listening=listening) as number, pytest.raises(RuntimeError) as error:
        torch.distributed.TCPStore("127.0.0.1", number, 2, is_master, timeout=SECONDS)
    assert job_fault(error.value).startswith(line)
    assert "\n" not in job_fault(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("listening", [False, True])
def test_a_job_whose_processes_do_not_meet_ends_within_its_timeout(listening, rank, tmp_path):
    with port(listening=listening) as number:
        job = command(tmp_path, *JOB, NODE_RANK=rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(number))
        output = job.communicate(timeout=120)[0]
    last = output.splitlines()[-1]

    assert job.returncode == 2, output
    assert "Traceback" not in output
    taken = listening and rank == "0"
    assert last.startswith(f"baa: MASTER_PORT: {number} is in use" if taken else f"baa: {NO_ANSWER}")
