"""Which arithmetic trains faster here: measured once a stage, by steps of the very network that is to be trained."""

import copy
import json
import time
from pathlib import Path

import lightning as L
import torch
from filelock import FileLock
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from baa.data.modules import Batch
from baa.training.callbacks import read_json, write_whole
from baa.training.modules import AgeModule

FULL, HALF = "32-true", "bf16-mixed"
ROUNDS = 2
WORTH = 0.9
"""bf16 is taken if a step needs less than this share of the time that it needs in fp32."""


def choose_precision(module: AgeModule, batch: Batch, device: torch.device, file: Path) -> str:
    """The faster of fp32 and bf16, measured on a copy of the module and kept in `file`.

    bf16 is not always faster where a processor has it: depthwise convolutions in particular can be slower. The choice is
    kept so that a resumed run, and every process of a distributed one, computes as the first did.

    Args:
        module: what is to be trained.
        batch: of the size that it is to be trained with.
        device: that it is to be trained on.
        file: `precision.json` of the stage.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        if not file.exists():
            seconds = _measure(copy.deepcopy(module).to(device).train(), move_data_to_device(batch, device))
            chosen = HALF if seconds.get(HALF, float("inf")) < WORTH * seconds[FULL] else FULL
            write_whole(file, json.dumps({"precision": chosen, "seconds_per_step": seconds}, indent=2))
            told = ", ".join(f"{value:.2f} s a step in {name}" for name, value in seconds.items())
            rank_zero_info(f"precision: {chosen} ({told})")
    return str(read_json(file)["precision"])


def _measure(module: AgeModule, batch: Batch) -> dict[str, float]:
    """Seconds of a step in each precision, the best of some rounds; of fp32 alone where there is no bf16."""
    device = batch.months.device
    half = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))
    seconds: dict[str, float] = {}
    with torch.random.fork_rng():
        for number in range(ROUNDS + 1):
            for name in (FULL, HALF) if half else (FULL,):
                start = time.perf_counter()
                with torch.autocast(device.type, torch.bfloat16, enabled=name == HALF):
                    _, loss = module.objective(batch)
                loss.backward()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if number:  # the first round is spent on memory and on choosing algorithms
                    seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - start)
                module.zero_grad()
    return seconds


class Compile(Callback):
    """`torch.compile` the net before the first step; where that fails, say why in a line and go on without.

    Args:
        batch: of the size to be trained with.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AgeModule)
        before = copy.deepcopy(pl_module.net.state_dict())
        pl_module.net.compile()
        try:
            with torch.random.fork_rng(), trainer.precision_plugin.train_step_context():
                _, loss = pl_module.objective(move_data_to_device(self.batch, pl_module.device))
            loss.backward()
        except Exception as error:
            pl_module.net._compiled_call_impl = None
            cause = getattr(error, "inner_exception", error)  # torch wraps what the back end raised
            reason = (str(cause).strip().splitlines() or [""])[0]
            rank_zero_info(f"trainer.compile: not used; {type(cause).__name__}: {reason}")
        pl_module.net.load_state_dict(before)  # the trial moved the statistics of the batch norms
        pl_module.zero_grad()
