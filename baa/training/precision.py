"""Which arithmetic is faster here: measured once a stage, on the very networks that are to work."""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from baa.assembly.trainer import FULL, HALF
from baa.atomic_io import read_json, write_whole
from baa.data.batch import Batch
from baa.modules.base import AgeModule
from baa.nets.locator import Locator

WARM_UP, ROUNDS = 1, 3
WORTH = 0.9
"""bf16 is taken where it needs less than this share of the time that fp32 needs."""
CLEAR = 1.5
"""Where one needs this many times as long as the other, one round tells."""


def choose_precision(
    begin: Callable[[], Callable[[], Tensor]], *, device: torch.device, file: Path, what: str, of: dict[str, Any]
) -> Literal["32-true", "bf16-mixed"]:
    """The faster of fp32 and bf16, measured and kept in `file`.

    bf16 is not always faster where a processor has it: depthwise convolutions in particular can be slower. The choice is
    kept so that a resumed run, and every process of a distributed one, computes as the first did.

    Args:
        begin: called where nothing is kept yet, gives what is to be done again and again; what that returns is
            differentiated if it can be.
        device: that it is done on.
        file: of the stage, where the choice is kept.
        what: the work's name, in a line for the reader.
        of: what the work follows from, plain data; a choice that was made for another work does not count.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        if read_json(file).get("of") != of:
            seconds = _measure(begin(), device)
            chosen = HALF if seconds.get(HALF, float("inf")) < WORTH * seconds[FULL] else FULL
            write_whole(file, json.dumps({"precision": chosen, "seconds": seconds, "of": of}, indent=2))
            told = ", ".join(f"{value:.2f} s in {name}" for name, value in seconds.items())
            rank_zero_info(f"precision of {what}: {chosen} ({told})")
    return HALF if read_json(file)["precision"] == HALF else FULL


def training_step(module: AgeModule, batch: Batch, device: torch.device) -> Callable[[], Tensor]:
    """A step of a copy of the module, as work for `choose_precision`: the loss of a batch of the size to be trained with."""
    copied, batch = copy.deepcopy(module).to(device).train(), move_data_to_device(batch, device)

    def step() -> Tensor:
        copied.zero_grad()
        return copied.objective(batch)[1]

    return step


def looks(locator: Locator, batch: Batch, device: torch.device) -> Callable[[], Tensor]:
    """A frozen locator's pass over a batch, as work for `choose_precision`."""
    locator, view = locator.to(device), batch.film.view(locator.px).to(device)

    @torch.no_grad()
    def features() -> Tensor:
        return locator.features(view)

    return features


def _measure(work: Callable[[], Tensor], device: torch.device) -> dict[str, float]:
    """Seconds of the work in each precision, the best of some rounds; in fp32 alone where there is no bf16."""
    half = device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False))
    seconds: dict[str, float] = {}
    with torch.random.fork_rng():
        for number in range(WARM_UP + ROUNDS):
            order = (FULL, HALF) if number % 2 else (HALF, FULL)
            for name in order if half else (FULL,):
                start = time.perf_counter()
                with torch.autocast(device.type, torch.bfloat16, enabled=name == HALF):
                    result = work()
                if result.requires_grad:
                    result.backward()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if number >= WARM_UP:  # the first rounds are spent on memory and on choosing algorithms
                    seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - start)
            if seconds and max(seconds.values()) > CLEAR * min(seconds.values()):
                break
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return seconds
