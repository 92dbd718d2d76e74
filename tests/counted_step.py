"""A training step of small networks, counted on a simulated GPU. Run in a new process: see `baa.benchmarks.counts.apart`."""

from unittest.mock import patch

import torch

from baa.benchmarks.counts import ATTENTION, count_step
from baa.data.augment import Augmentation

SMALL = (
    *(f"{name}=test_resnet" for name in ("locator.backbone.name", "estimator.carpal.name", "estimator.hand.name")),
    "locator.head=distribution",
    "locator.px=64",
    "crops.carpal.px=48",
    "crops.hand.px=40",
    "estimator.carpal.conv_pool=false",
    "estimator.auxiliary=1.0",
)

LINES = {
    "number": lambda months: float(months.sum()),
    "list": lambda months: torch.tensor([1.0, 2.0], device=months.device),
    "to the host": lambda months: months.cpu(),
    "truth values": lambda months: months[months > 0],
    "nonzero": lambda months: months.nonzero(),
    "left on the host": lambda months: months + torch.ones(len(months)),
}
"""Lines that no training step may have, with the months of a batch."""


def count_small(name, erasing=0.0):
    return count_step(name, (*ATTENTION, *SMALL), Augmentation(random_erasing_p=erasing))


def count_with_line(line):
    def penalty(module, prediction, months):
        LINES[line](prediction.months)
        return 0.0

    with patch("baa.modules.locator.LocatorModule.penalty", penalty):
        return count_small("locator")
