"""A loader process that fails ends the command with one line, and nothing waits for those that are left."""

import os
import subprocess
import sys
import time

import forked
import pytest
from PIL import Image
from tiny_run import settings

from baa.data.sources.phantom import phantom_cases
from baa.data.workers import loader_fault

COMMAND = """
import os, resource, signal, sys, time
import torch
from torch.utils.data import DataLoader
from baa.cli import run_command
from baa.data.workers import loading


class Unsendable:
    def __reduce__(self):
        raise OSError(24, "Too many open files")


class Planted(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index == 5:
            if sys.argv[1] == "exception":
                raise KeyError("planted")
            if sys.argv[1] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if sys.argv[1] == "files":  # the batch is sent by a thread of the queue, which needs a file descriptor
                open_now = len(os.listdir("/proc/self/fd"))
                resource.setrlimit(resource.RLIMIT_NOFILE, (open_now - 1, open_now - 1))
            if sys.argv[1] == "memory":
                raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)")
            if sys.argv[1] == "stall":
                time.sleep(60)
            if sys.argv[1] == "send":
                return Unsendable()
        if index == 20:
            time.sleep(60)  # and this process ignores SIGTERM
        return torch.zeros(9, 9)


def main():
    loader = DataLoader(Planted(), batch_size=4, collate_fn=list, **loading(3, 2.0 if sys.argv[1] == "stall" else 60.0))
    print("begins", flush=True)
    sys.batches = iter(loader)  # something may hold the iterator at the end
    for batch in sys.batches:
        pass


run_command(main)
"""


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        ("exception", 1, "KeyError: 'planted'"),
        ("kill", 2, "DataLoader worker (pid"),
        ("send", 2, "DataLoader worker (pid"),
        ("files", 2, ""),
        (
            "stall",
            2,
            "DataLoader timed out after 2.0 seconds; use fewer processes",
        ),
        ("memory", 2, "RuntimeError: unable to write to file </torch_1>: No space left on device (28)"),
    ],
)
def test_a_command_ends_soon_after_its_loader_fails(fault, code, message):
    process = forked.start(["-W", "ignore", "-c", COMMAND, fault], env=os.environ, stderr=subprocess.PIPE)
    assert process.stdout.readline() == "begins\n"
    began = time.monotonic()
    try:
        errors = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert time.monotonic() - began < 10
    assert process.returncode == code, errors
    assert message in errors
    if code == 2:
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith("baa: a process that reads radiographs failed: ")
        assert errors.endswith("more open files (ulimit -n)\n")


KILLED = """
import os, signal, sys, time
from importlib import import_module
from pathlib import Path
from baa.cli import run_command

command, killed = sys.argv.pop(1), sys.argv.pop(1)
if command == "predict":
    from baa.inference.files import FileDataset as Dataset
else:
    from baa.data.batch import RadiographDataset as Dataset


def planted(self, index):
    try:
        Path(killed).touch(exist_ok=False)
    except FileExistsError:
        time.sleep(3600)  # and this process ignores SIGTERM
    os.kill(os.getpid(), signal.SIGKILL)


setattr(Dataset, "__getitem__" if command == "predict" else "__getitems__", planted)
run_command(import_module(f"baa.{command}").main)
"""


@pytest.mark.parametrize("command", ["predict", "fit"])
def test_predict_and_fit_end_after_a_process_of_theirs_is_killed(command, finished, tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    (tmp_path / "tiny.yaml").write_text("stages: [locator]\n")
    arguments = ["--config", tmp_path / "tiny.yaml", *settings(tmp_path, "data.workers=2", "locator.fit.batch_size=8")]
    if command == "predict":
        for case in phantom_cases(4, seed=5):
            Image.fromarray(case.image.load(96).pixels).save(tmp_path / f"{case.id}.png")
        arguments = [tmp_path, "--checkpoint", finished[0] / "tiny" / "estimator" / "best.ckpt", "--workers", 2]
        arguments += ["--out", tmp_path / "out", "--batch-size", 1]
    killed = tmp_path / "killed"
    done = forked.run(["-W", "ignore", tmp_path / "killed.py", command, killed, *arguments], timeout=600)
    assert killed.exists()
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("baa: ")]
    assert line.startswith("baa: a process that reads radiographs failed: DataLoader worker (pid")
    assert "Traceback" not in done.stderr


FULL = """
import torch
from torch.utils.data import DataLoader
from baa.cli import run_command
from baa.data.workers import loading


class Large(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitems__(self, indices):
        return torch.zeros(len(indices), 1 << 18)  # 4 MiB a batch


def main():
    for batch in DataLoader(Large(), batch_size=4, collate_fn=lambda batch: batch, **loading(2, 20.0)):
        pass


run_command(main)
"""


@pytest.mark.parametrize("size", ["4k", "2m", "6m"])
def test_a_full_shared_memory_ends_a_command_in_one_line(size, tmp_path):
    """The first has no room for queues. In the last a batch may come of a process that has died."""
    (tmp_path / "full.py").write_text(FULL)
    mounted = f"mount -t tmpfs -o size={size} tmpfs /dev/shm && head -c 4096 /dev/zero > /dev/shm/full &&"
    start = ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{mounted} exec "$@"', "sh", sys.executable, "-W", "ignore"]
    if subprocess.run([*start[:5], f"{mounted} true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount a file system")
    done = subprocess.run([*start, str(tmp_path / "full.py")], capture_output=True, text=True, timeout=90)

    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "docker run --shm-size" in done.stderr


def test_other_errors_are_no_fault_of_a_loader():
    assert loader_fault(RuntimeError("Caught KeyError in DataLoader worker process 0.\nTraceback ...\nKeyError: 'x'")) is None
    assert "Killed" in loader_fault(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
