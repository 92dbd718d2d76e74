"""Where a stage computes before its trainer has taken over."""

import torch

from baa.schema import Config


def compute_device(config: Config) -> torch.device:
    """The GPU if there is one and `trainer.accelerator` does not rule it out, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
