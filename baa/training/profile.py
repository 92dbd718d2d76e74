"""Where a training step goes: a trace of a few steps, and ten lines that sum it up."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch.profiler import ProfilerActivity, profile, schedule

from baa.atomic_io import replacing, write_whole
from baa.data.datamodules import PHASE

WARM_STEPS, TRACED_STEPS, SUMMARY_LINES = 3, 3, 10


class Profile(Callback):
    """Trace some of the first steps: `trace.json` for chrome://tracing or Perfetto, and `profile.txt`.

    Args:
        folder: where both files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.profiler: profile | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            self.profiler = profile(
                activities=activities,
                schedule=schedule(wait=WARM_STEPS - 1, warmup=1, active=TRACED_STEPS, repeat=1),
                on_trace_ready=self._write,
            )
            self.profiler.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.profiler is not None:
            self.profiler.step()
            if self.profiler.step_num == WARM_STEPS + TRACED_STEPS:
                self._end()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end()

    def _end(self) -> None:
        if self.profiler is not None:
            self.profiler.stop()
            self.profiler = None

    def _write(self, traced: profile) -> None:
        with replacing(self.folder / "trace.json") as fresh:
            traced.export_chrome_trace(str(fresh))
        write_whole(self.folder / "profile.txt", summary(traced))
        rank_zero_info(f"profile: {TRACED_STEPS} steps in {self.folder / 'trace.json'}, summed up in profile.txt")


def summary(traced: profile) -> str:
    """Our own phases, each with all that runs inside it, then the costliest operations; shares of the time that was busy."""
    averages = [event for event in traced.key_averages() if not event.key.startswith("ProfilerStep")]
    on_device = torch.cuda.is_available()
    own = {e.key: e.self_device_time_total if on_device else e.self_cpu_time_total for e in averages}
    whole = {e.key: e.device_time_total if on_device else e.cpu_time_total for e in averages}
    busy = sum(own.values())
    phases = sorted((key for key in whole if key.startswith(PHASE)), key=lambda key: -whole[key])
    costliest = sorted((key for key in own if not key.startswith(PHASE)), key=lambda key: -own[key])
    lines = [f"{whole[key] / busy:6.1%}  {key}" for key in phases]
    lines += [f"{own[key] / busy:6.1%}  {key}" for key in costliest[: SUMMARY_LINES - len(lines)]]
    return "\n".join(lines) + "\n"
