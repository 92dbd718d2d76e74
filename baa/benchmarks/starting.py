"""`start`: time to the help text, to a config error and to the first training step."""

import tempfile

from baa.benchmarks.pairs import Row, alternate, quotient
from baa.benchmarks.processes import locator_run, run_python

ROUNDS = 5
SMALL = ("data.phantom.count=40", "data.source_px=96", "locator.backbone.name=resnet10t", "locator.px=64")


def bench() -> list[Row]:
    """Time the help text and a config error in seconds, and the first training step relative to its imports."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = alternate(
            {
                "help": lambda: run_python("-m", "baa.fit", "--help"),
                "error": lambda: run_python("-m", "baa.fit", *locator_run(folder, *SMALL, "locator.fit.lrr=1"), code=2),
                "imports": lambda: run_python("-c", "import torch, lightning"),
                "step": lambda: run_python("-m", "baa.benchmarks.first_steps", *locator_run(folder, *SMALL)),
            },
            ROUNDS,
        )
    one = [1.0] * ROUNDS
    return [
        quotient("start-help", "baa.fit --help, seconds", seconds["help"], one, 1.0),
        quotient("start-error", "config error, seconds", seconds["error"], one, 1.0),
        quotient("start-step", "first training step / import torch, lightning", seconds["step"], seconds["imports"], 1.3),
    ]
