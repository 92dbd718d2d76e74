"""Run `baa.fit` for a few training steps only: `python -m baa.benchmarks.first_steps --config F key=value ...`.

The environment sets the number of SKIPPED_STEPS (default 0) and TIMED_STEPS (default 1). Rank 0 prints the seconds of the
timed steps, without the very first step. Each process then exits.
"""

import os
import runpy
import time
from typing import Any

from baa.modules.base import AgeRegressionModule

SKIPPED, TIMED = int(os.environ.get("SKIPPED_STEPS", "0")), int(os.environ.get("TIMED_STEPS", "1"))
ENDS: list[float] = []


def exit_after_last_step(module: AgeRegressionModule, *_: Any) -> None:
    """Record the end of a step. After the last step print the seconds and exit."""
    ENDS.append(time.perf_counter())
    if len(ENDS) == SKIPPED + TIMED:
        if module.global_rank == 0:
            print(ENDS[-1] - ENDS[max(SKIPPED - 1, 0)], flush=True)
        os._exit(0)


if __name__ == "__main__":
    AgeRegressionModule.on_train_batch_end = exit_after_last_step  # type: ignore[assignment, method-assign]
    runpy.run_module("baa.fit", run_name="__main__")
