"""`ddp`: weak scaling from one process to two, with one thread and the same batch size per process."""

import tempfile

from baa.benchmarks.pairs import Row, in_turns, quotient
from baa.benchmarks.processes import locator_run, run_python
from baa.errors import InputError
from baa.machine import usable_cores

ROUNDS, SKIPPED, TIMED = 3, 3, 8
SETTINGS = (
    "data.phantom.count=640",
    "data.source_px=320",
    "locator.backbone.name=resnet18",
    "locator.px=224",
    "locator.fit.batch_size=16",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
)


def bench() -> list[Row]:
    """Compare the step time of one process with the step time of two.

    Raises:
        InputError: the process may use fewer than two cores.
    """
    if usable_cores() < 2:
        raise InputError("ddp: one usable core; this benchmark needs two")
    with tempfile.TemporaryDirectory() as folder:
        seconds = in_turns({"one": lambda: _seconds(folder, 1), "two": lambda: _seconds(folder, 2)}, ROUNDS)
    what = "step of one process / step of two processes"
    return [quotient("ddp", what, seconds["one"], seconds["two"], 0.93, at_least=True)]


def _seconds(folder: str, processes: int) -> float:
    arguments = locator_run(folder, *SETTINGS, f"trainer.devices={processes}")
    env = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "SKIPPED_STEPS": f"{SKIPPED}", "TIMED_STEPS": f"{TIMED}"}
    return float(run_python("-m", "baa.benchmarks.first_steps", *arguments, env=env).splitlines()[-1])
