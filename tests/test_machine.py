"""glibc returns freed memory before a loader is forked."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, torch
from baa.machine import keep_freed_memory

def mebibytes():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))

keep_freed_memory()
keep_freed_memory()
many = [torch.ones(1 << 18) for _ in range(400)]
last = torch.ones(1)
del many
kept = mebibytes()
if (child := os.fork()) == 0:
    os._exit(0)
os.waitpid(child, 0)
print(kept, mebibytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_a_fork_does_not_copy_freed_memory():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, after = map(int, done.stdout.split())

    assert kept > after + 300
