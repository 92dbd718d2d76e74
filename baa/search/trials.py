"""A trial of a sweep: a training process, its log, and its metric so far."""

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

PR_SET_PDEATHSIG = 1
"""Option of Linux's `prctl`: the signal that a process gets when its parent dies."""

TERMINATE_SECONDS = 20.0
"""How long `SIGTERM` may take before `SIGKILL`."""


class TrialProcess:
    """A running trial.

    Args:
        command: the command of the process.
        config: the config that the command trains.
        run: id of its W&B run, which is logged offline.
        group: group of W&B runs.
        log: file that its output is appended to.
        environment: variables added to the inherited environment.
        reported: number of epochs whose metric is already known.
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
                preexec_fn=_die_with_parent,
            )

    def exit_code(self) -> int | None:
        """The exit code; None while the process runs."""
        return self.process.poll()

    def by_epoch(self, metric: str) -> dict[int, float]:
        """A metric of the last stage by finished epoch, counted from 1; empty if it is not logged per epoch."""
        with contextlib.suppress(FileNotFoundError, KeyError, ValueError):  # not written yet, or cut short
            table = pd.read_csv(self.folder / self.stage / "metrics.csv")
            if metric in table:
                return {int(epoch) + 1: float(value) for epoch, value in zip(table["epoch"], table[metric], strict=True)}
        return {}

    def final(self, metric: str) -> float | None:
        """A metric of the finished run, from its evaluation or else its last epoch; None if there is none."""
        evaluated = read_json(self.folder / "metrics.json").get(self.stage)
        if evaluated is None:
            return None
        value = evaluated.get(metric, next(reversed(self.by_epoch(metric).values()), None))
        return None if value is None else float(value)

    def end(self) -> None:
        """End the process and its children by SIGTERM, then by SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(TERMINATE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def resource_share(slot: int, workers: int) -> dict[str, str]:
    """Environment variables that give a trial its share of the machine: CPU threads, and one GPU if there is one.

    Args:
        slot: index of the trial among the running ones.
        workers: the most trials that run at a time.
    """
    if workers == 1:
        return {}
    share = {"OMP_NUM_THREADS": str(max(1, usable_cores() // workers))}
    if gpus := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
        parts = len(visible) if visible[0].startswith("MIG") else gpus  # torch sees one part of a GPU alone
        share["CUDA_VISIBLE_DEVICES"] = visible[slot % parts]
    return share


def _die_with_parent() -> None:
    """On Linux, kill the trial when its sweep dies; otherwise the resumed sweep would start a second process for it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
