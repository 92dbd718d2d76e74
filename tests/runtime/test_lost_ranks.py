"""A failed process ends the whole job soon, with its error first; the same command then resumes the job."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from tiny_run import command, settings

LONG = ["data.phantom.count=120", "locator.fit.epochs=4", "locator.fit.batch_size=4", "trainer.accelerator=cpu"]
TWO = [*LONG, "trainer.devices=2"]
END_SECONDS = 60

pytestmark = pytest.mark.slow


def children(process):
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process):
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rsplit(")")[1].split()[0] != "Z"


def start_job(folder, rows):
    """The job's first process and the other ranks, once the curve has `rows` rows."""
    job, curve = command(folder, *TWO), folder / "tiny" / "locator" / "metrics.csv"
    deadline = time.monotonic() + 300
    while not curve.exists() or len(pd.read_csv(curve)) < rows:
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ranks = [child for child in children(job.pid) if b"brief.py" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return job, ranks


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    assert command(folder, *TWO).wait(300) == 0
    return folder / "tiny"


def check_resume(folder, unbroken):
    """The same command resumes the job and reaches the results of the unbroken job."""
    again = command(folder, *TWO)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert "resumes after epoch" in output
    assert (folder / "tiny" / "metrics.json").read_text() == (unbroken / "metrics.json").read_text()
    ours, theirs = (pd.read_csv(run / "locator" / "metrics.csv") for run in (folder / "tiny", unbroken))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-6)  # an interrupted epoch adds the processes' means in another order


def test_a_signal_to_one_process_stops_all_after_the_same_step(unbroken, tmp_path):
    job, ranks = start_job(tmp_path, 2)
    os.kill(ranks[0], signal.SIGUSR1)
    output = job.communicate(timeout=END_SECONDS)[0]

    assert job.returncode == 128 + signal.SIGTERM, output  # rank 0 does not know which signal it was
    assert re.search("stopped by SIGTERM; .*same command", output)
    check_resume(tmp_path, unbroken)


@pytest.mark.parametrize("lost", ["first", "second"])
def test_a_killed_process_ends_the_job(lost, unbroken, tmp_path):
    job, ranks = start_job(tmp_path, 2)
    assert len(ranks) == 1
    os.kill(job.pid if lost == "first" else ranks[0], signal.SIGKILL)
    start = time.monotonic()
    while any(map(alive, [job.pid, *ranks])):
        assert time.monotonic() - start < END_SECONDS, job.communicate()[0]
        time.sleep(0.1)
        job.poll()
    print(f"{lost} killed: job ended after {time.monotonic() - start:.1f} s")  # noqa: T201
    assert job.wait() != 0
    check_resume(tmp_path, unbroken)


FAILING = """
import os, sys
from baa.fit import main
from baa.cli import run_command
from baa.modules.base import AgeRegressionModule

def step(self, batch, batch_idx, step=AgeRegressionModule.training_step):
    if self.global_rank == 1 and batch_idx == 3:
        raise ArithmeticError("failure of rank 1")
    return step(self, batch, batch_idx)

AgeRegressionModule.training_step = step
run_command(main)
"""


def test_an_exception_of_one_process_is_shown_first_and_ends_all(tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    (tmp_path / "tiny.yaml").write_text("stages: [locator]\n")
    arguments = [sys.executable, "failing.py", "--config", "tiny.yaml", *settings(tmp_path, *TWO)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if "Error" in line]
    assert "failure of rank 1" in errors[0], done.stderr


def test_a_full_disk_ends_the_job_without_a_broken_checkpoint(tmp_path):
    (tmp_path / "tiny.yaml").write_text("stages: [locator]\n")
    (tmp_path / "job").mkdir()
    whole = command(tmp_path / "job", *LONG, "locator.fit.epochs=1")
    assert whole.wait(300) == 0
    checkpoint = (tmp_path / "job" / "tiny" / "locator" / "last.ckpt").stat().st_size
    arguments = [sys.executable, "-m", "baa.fit", "--config", str(tmp_path / "tiny.yaml"), *settings(tmp_path, *TWO)]
    limited = f'ulimit -f {checkpoint // 2048}; exec "$@"'  # half a checkpoint, in blocks of 1024 bytes
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    start = ["bash", "-c", limited, "bash", *arguments]
    done = subprocess.run(start, env=environment, capture_output=True, text=True, timeout=120)

    assert done.returncode != 0
    assert "best.ckpt: cannot write the file (" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "tiny" / "locator").glob("*.ckpt"))
