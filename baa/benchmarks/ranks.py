"""`ddp`: two processes with a thread each against one, the same batch for each of them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from baa.benchmarks.pairs import Row, quotient
from baa.errors import InputError
from baa.machine import usable_cores

ROUNDS, BEFORE, TIMED = 3, 3, 8
SETTINGS = (
    "data.source=phantom",
    "data.phantom.count=640",
    "data.source_px=320",
    "data.workers=0",
    "locator.backbone.name=resnet18",
    "locator.backbone.weights=none",
    "locator.px=224",
    "trainer.precision=32-true",
    "locator.fit.batch_size=16",
    "trainer.progress=false",
    "trainer.accelerator=cpu",
)
STEPS = f"""\
import os, time
import baa.fit
from baa.modules.base import AgeModule

ends = []

def end(module, *_):
    ends.append(time.perf_counter())
    if len(ends) == {BEFORE + TIMED}:
        if module.global_rank == 0:
            print("seconds", ends[-1] - ends[{BEFORE - 1}], flush=True)
        os._exit(0)

AgeModule.on_train_batch_end = end
baa.fit.main()
"""


def bench() -> list[Row]:
    """Weak scaling: what a step costs one process, over what it costs each of two."""
    if usable_cores() < 2:
        raise InputError("the ddp benchmark needs two cores")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "steps.py").write_text(STEPS)
        (Path(folder) / "ranks.yaml").write_text("stages: [locator]\n")
        sides: dict[str, Callable[[], float]] = {
            "one": lambda: _seconds(folder, "trainer.devices=1"),
            "two": lambda: _seconds(folder, "trainer.devices=2", "trainer.strategy=ddp"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(ROUNDS):
            for name in list(sides) if number % 2 else list(sides)[::-1]:
                seconds[name].append(sides[name]())
    what = "a step of one process / a step of each of two"
    return [quotient("ddp", what, seconds["one"], seconds["two"], 0.93, at_least=True)]


def _seconds(folder: str, *settings: str) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        command = [sys.executable, f"{folder}/steps.py", "--config", f"{folder}/ranks.yaml", f"runs={runs}"]
        done = subprocess.run(
            [*command, f"data.cache={folder}/cache", *SETTINGS, *settings],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
    told = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("seconds ")]
    if not told:
        raise RuntimeError(f"the ddp benchmark's training ended early:\n{done.stdout}\n{done.stderr}")
    return float(told[0])
