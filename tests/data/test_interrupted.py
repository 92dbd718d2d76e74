"""A signal while radiographs are decoded ends all processes at once; the same command then builds the cache."""

import os
import signal
import subprocess
import time

import forked
import pytest
from PIL import Image

from baa.data.sources.phantom import phantom_cases

FILMS = 400
"""Enough that they are still being decoded when the signal comes."""

COMMAND = """
import sys
from pathlib import Path
import datasets
from baa.cli import run_command
from baa.data.cache import open_cache
from baa.data.cases import Case
from baa.data.read.file import ImageFile
from baa.patient import Sex
from baa.runtime.preemption import stoppable_work

folder = Path(sys.argv[1])
cases = [Case(file.stem, ImageFile(file), 60.0, Sex.MALE) for file in sorted(folder.glob("*.png"))]

datasets.disable_progress_bars()


def main():
    with stoppable_work("run the same command again"):
        radiographs = open_cache(cases, folder=folder / "cache", px=64, workers=2)
    print(f"{len(radiographs.cases)} cases")


run_command(main)
"""


def begin(folder):
    return forked.start(["-W", "ignore", "-c", COMMAND, folder], env=os.environ)


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def left(group):
    """The processes of a group that have not ended."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pgid,stat,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split(None, 2) for line in listed]
    return [row for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "to", "line"),
    [
        (signal.SIGINT, "group", "interrupted"),
        (signal.SIGTERM, "group", "stopped by SIGTERM"),
        (signal.SIGINT, "first process", "interrupted"),
    ],
)
def test_a_signal_ends_all_processes_and_the_cache_can_be_built(how, to, line, tmp_path):
    film = phantom_cases(1, seed=0)[0].image.load(96).pixels
    for number in range(FILMS):
        Image.fromarray(film).save(tmp_path / f"{number}.png")
    process = begin(tmp_path)
    wait_until(lambda: any("serve" in row[2] for row in left(process.pid)))
    (os.killpg if to == "group" else os.kill)(process.pid, how)
    began = time.monotonic()
    output = process.communicate(timeout=60)[0]

    assert output == f"{line}; run the same command again\n"
    assert process.returncode == 128 + how
    assert time.monotonic() - began < 30
    assert left(process.pid) == []
    again = begin(tmp_path)
    assert again.communicate(timeout=120)[0] == f"{FILMS} cases\n"
