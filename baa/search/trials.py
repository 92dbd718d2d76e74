"""One trial of a sweep: a process that trains, its log, and what it has reached so far."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from baa.search.sweepfile import RUN_ID

PARENT_DEATH_SIGNAL = 1
PATIENCE_SECONDS = 20.0


class Trial:
    """A running trial.

    Args:
        command: of the process.
        run: id of its W&B run, which is kept offline.
        group: of W&B runs.
        folder: of the run that is trained.
        stage: whose metrics count.
        log: file that its output is added to.
        threads: of its own.
        reported: epochs whose metric is known already.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        run: str,
        group: str,
        folder: Path,
        stage: str,
        log: Path,
        threads: int,
        reported: int,
    ) -> None:
        self.folder = folder
        self.reported = reported
        self.stage = stage
        environment = {
            **os.environ,
            RUN_ID: run,
            "WANDB_RUN_GROUP": group,
            "WANDB_MODE": "offline",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def values(self, metric: str) -> dict[int, float]:
        """The metric by epoch, so far; what is only known at the end stands at epoch -1."""
        values: dict[int, float] = {}
        with contextlib.suppress(FileNotFoundError, pd.errors.EmptyDataError):
            table = pd.read_csv(self.folder / self.stage / "metrics.csv")
            if metric in table:
                values = {int(epoch): float(value) for epoch, value in zip(table["epoch"], table[metric], strict=True)}
        if not values:
            with contextlib.suppress(FileNotFoundError, KeyError):
                values = {-1: float(json.loads((self.folder / "metrics.json").read_text())[self.stage][metric])}
        return values

    def end(self) -> None:
        """Ask the process and its children to end, then make them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _end_with_parent() -> None:
    """A sweep that is killed leaves no trial behind, which the next one would start beside it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
