"""One trial of a sweep: a process that trains, its log, and what it has reached so far."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from baa.atomic_io import read_json
from baa.config.schema import Config
from baa.machine import usable_cores
from baa.search.sweepfile import RUN_ID

PARENT_DEATH_SIGNAL = 1
PATIENCE_SECONDS = 20.0


class TrialProcess:
    """A running trial.

    Args:
        command: of the process.
        config: that it trains.
        run: id of its W&B run, which is kept offline.
        group: of W&B runs.
        log: file that its output is added to.
        environment: of the process, besides what it inherits.
        reported: epochs whose metric is known already.
    """

    def __init__(
        self,
        command: Sequence[str],
        config: Config,
        *,
        run: str,
        group: str,
        log: Path,
        environment: Mapping[str, str],
        reported: int,
    ) -> None:
        self.folder = config.folder
        self.stage = config.stages[-1]
        self.epochs: int = getattr(config, self.stage).fit.epochs
        self.reported = reported
        wandb = {RUN_ID: run, "WANDB_RUN_GROUP": group, "WANDB_MODE": "offline"}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **environment, **wandb},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def exit_code(self) -> int | None:
        """Of the process, None while it runs."""
        return self.process.poll()

    def by_epoch(self, metric: str) -> dict[int, float]:
        """A metric of the last stage by the epochs finished, counted from 1; empty if it is not known by epoch."""
        with contextlib.suppress(FileNotFoundError, pd.errors.EmptyDataError):
            table = pd.read_csv(self.folder / self.stage / "metrics.csv")
            if metric in table:
                return {int(epoch) + 1: float(value) for epoch, value in zip(table["epoch"], table[metric], strict=True)}
        return {}

    def final(self, metric: str) -> float | None:
        """A metric of the run once it is whole: of the last epoch, or of the verdict on the test cases."""
        verdict = read_json(self.folder / "metrics.json").get(self.stage)
        if verdict is None:
            return None
        value = verdict.get(metric, next(reversed(self.by_epoch(metric).values()), None))
        return None if value is None else float(value)

    def end(self) -> None:
        """Ask the process and its children to end, then make them."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def share_of_the_machine(slot: int, workers: int) -> dict[str, str]:
    """What keeps trials side by side out of each other's way: threads of their own, and where there are GPUs one of these.

    Args:
        slot: of the trial among those that run, from 0.
        workers: how many may run.
    """
    if workers == 1:
        return {}
    share = {"OMP_NUM_THREADS": str(max(1, usable_cores() // workers))}
    if gpus := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
        share["CUDA_VISIBLE_DEVICES"] = visible[slot % gpus]
    return share


def _end_with_parent() -> None:
    """A sweep that is killed leaves no trial behind, which the next one would start beside it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
