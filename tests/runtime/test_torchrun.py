"""torchrun restarts a job whose process dies; the job goes on from its checkpoint."""

import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from tiny_run import command

FIT = ["data.phantom.count=60", "locator.fit.epochs=4", "locator.fit.batch_size=4", "trainer.accelerator=cpu"]
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0")

pytestmark = pytest.mark.slow


def begin(folder, restarts, *more):
    return command(folder, *FIT, *more, program=(*TORCHRUN, f"--max-restarts={restarts}", "-m", "baa.fit"))


def kill_rank(rank, job, folder):
    """Kill that process of the job after its second epoch."""
    curve, deadline = folder / "tiny" / "locator" / "metrics.csv", time.monotonic() + 400
    while not curve.exists() or len(pd.read_csv(curve)) < 2:
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    ranks = {name: int(child) for child in children for name in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")}
    os.kill(ranks[f"RANK={rank}".encode()], signal.SIGKILL)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    job = begin(folder, 0)
    output = job.communicate(timeout=500)[0]
    assert job.returncode == 0, output
    return folder / "tiny"


@pytest.mark.parametrize("rank", [0, 1])
def test_a_job_whose_process_dies_is_restarted_and_reaches_the_results_of_an_unbroken_one(rank, unbroken, tmp_path):
    job = begin(tmp_path, 1)
    kill_rank(rank, job, tmp_path)
    output = job.communicate(timeout=500)[0]

    assert job.returncode == 0, output
    assert "resumes after epoch" in output
    assert "Traceback" not in output
    assert (tmp_path / "tiny" / "metrics.json").read_text() == (unbroken / "metrics.json").read_text()
    curves = [(run / "locator" / "metrics.csv").read_text() for run in (tmp_path / "tiny", unbroken)]
    assert curves[0] == curves[1]


def test_without_a_restart_the_job_ends_and_the_same_command_continues_it(unbroken, tmp_path):
    job = begin(tmp_path, 0)
    kill_rank(1, job, tmp_path)
    output = job.communicate(timeout=500)[0]
    assert job.returncode != 0
    lines = [line for line in output.splitlines() if line.startswith("baa: ")]
    assert all("another process of this job does not respond" in line for line in lines), output

    job = begin(tmp_path, 0)
    output = job.communicate(timeout=500)[0]
    assert job.returncode == 0, output
    assert "resumes after epoch" in output
    assert (tmp_path / "tiny" / "metrics.json").read_text() == (unbroken / "metrics.json").read_text()
