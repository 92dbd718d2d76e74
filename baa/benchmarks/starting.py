"""`start`: how long a user waits for help, for an error, for the first training step."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from baa.benchmarks.pairs import Row, alternate, quotient

ROUNDS = 5
STAGE = "stages: [locator]\n"
SMALL_RUN = (
    "data.source=phantom",
    "data.phantom.count=40",
    "data.source_px=96",
    "data.workers=0",
    "locator.backbone.name=resnet10t",
    "locator.backbone.weights=none",
    "locator.px=64",
    "trainer.progress=false",
)
FIRST_STEP = """\
import os, sys
sys.argv = ["baa.fit", *sys.argv[1:]]
import baa.fit
from baa.modules.base import AgeModule
AgeModule.on_train_batch_end = lambda *_: os._exit(0)
baa.fit.main()
"""


def bench() -> list[Row]:
    """Seconds for help and for an error in a config; the first step against importing torch and lightning."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "small.yaml"
        config.write_text(STAGE)
        run = ["--config", str(config), f"data.cache={folder}/cache", *SMALL_RUN]

        def first_step() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as fresh:
                _python("-c", FIRST_STEP, *run, f"runs={fresh}")

        sides: dict[str, Callable[[], object]] = {
            "help": lambda: _python("-m", "baa.fit", "--help"),
            "error": lambda: _python("-m", "baa.fit", *run, f"runs={folder}", "locator.fit.lrr=1", code=2),
            "imports": lambda: _python("-c", "import torch, lightning"),
            "step": first_step,
        }
        seconds = alternate(sides, ROUNDS)
    one = [1.0] * ROUNDS
    return [
        quotient("start-help", "baa.fit --help, seconds", seconds["help"], one, 1.0),
        quotient("start-error", "an error in a config, seconds", seconds["error"], one, 1.0),
        quotient("start-step", "first training step / import torch, lightning", seconds["step"], seconds["imports"], 1.3),
    ]


def _python(*arguments: str, code: int = 0) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != code:
        raise RuntimeError(f"python {' '.join(arguments)} ended with {done.returncode}, not {code}:\n{done.stderr}")
