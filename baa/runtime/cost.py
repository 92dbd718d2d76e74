"""What a stage costs: core-hours of all its processes, over all starts."""

import json
import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from baa.atomic_io import write_atomic

COST = "cost.json"


def core_seconds() -> float:
    """Processor time of this process and of its children that have ended, such as loaders."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


class Cost(Callback):
    """Count processor time and time from when it is made. A resumed run adds to what its checkpoint has.

    Each process of a job counts its own. After a resume each adds to the count of the first.
    """

    def __init__(self) -> None:
        self.before = {"core_seconds": 0.0, "seconds": 0.0}
        self.start = (core_seconds(), time.monotonic())

    def spent(self) -> dict[str, float]:
        """Return processor time and time so far, in seconds."""
        now = zip(self.before.items(), (core_seconds(), time.monotonic()), self.start, strict=True)
        return {name: before + end - start for (name, before), end, start in now}

    def state_dict(self) -> dict[str, Any]:
        return self.spent()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = dict(state_dict)

    def write(self, trainer: L.Trainer, file: Path) -> None:
        """Write the cost of all processes of a stage. All of them call this."""
        spent = self.spent()
        core = torch.tensor(spent["core_seconds"], device=trainer.strategy.root_device)
        hours = {
            "core_hours": round(float(trainer.strategy.reduce(core, reduce_op="sum")) / 3600, 4),
            "hours": round(spent["seconds"] / 3600, 4),
            "processes": trainer.world_size,
            "device": trainer.strategy.root_device.type,
        }
        rank_zero_only(write_atomic)(file, json.dumps(hours, indent=2))
