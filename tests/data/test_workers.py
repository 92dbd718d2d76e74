"""A loader process that fails ends the command with one line, and nothing waits for those that are left."""

import subprocess
import sys
import time

import pytest

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
            if sys.argv[1] == "send":
                return Unsendable()
        if index == 20:
            time.sleep(60)  # and this process ignores SIGTERM
        return torch.zeros(9, 9)


def main():
    loader = DataLoader(Planted(), batch_size=4, collate_fn=list, **loading(3))
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
        ("memory", 2, "RuntimeError: unable to write to file </torch_1>: No space left on device (28)"),
    ],
)
def test_a_command_ends_soon_after_its_loader_fails(fault, code, message):
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", COMMAND, fault], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
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


def test_other_errors_are_no_fault_of_a_loader():
    assert loader_fault(RuntimeError("Caught KeyError in DataLoader worker process 0.\nTraceback ...\nKeyError: 'x'")) is None
    assert "Killed" in loader_fault(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "))
