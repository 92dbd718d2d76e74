"""Whether a picture shows a hand of usual proportions that fills it: not stretched, and without wide margins.

The hand has to be upright. A small network estimates both. `baa.training.proportions` trains it.
"""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from baa.data.read.small_network import run_network

WEIGHTS = Path(__file__).with_name("proportions.npz")

PX = 96
CHANNELS = (1, 16, 32, 64, 64)
CELLS = 6
"""Cells a side of the network's last map."""

WIDE, TALL, SMALL = 0.24, -0.38, -0.26
"""Logarithms beyond which a hand counts as too wide, too tall, or small.

In doubt it counts as usual: of 594 radiographs with usual hands, 0.5 % count as too wide, 0.7 % as too tall, 0.3 % as small.
A hand that is 1.5 times too wide is noted in 91 %, one that is 1.33 times too wide in 53 %.
"""

STRETCH_NOTE = "the hand looks {factor:.1f} times too {extent}: if the picture was stretched, the age is off by months to years"
SMALL_NOTE = "the hand fills {share:.0%} of what it usually does: cut the margin, or the age may be off by months"


class Proportions(NamedTuple):
    """Logarithms: how many times as wide a hand is, compared with its height, as usual; and how large in its picture."""

    stretch: float
    size: float


def proportion_notes(levels: np.ndarray) -> list[str]:
    """Sentences about a picture uint8 [H, W] of an upright hand, bones bright, with unusual proportions."""
    found = estimate_proportions(levels)
    notes = []
    if not TALL <= found.stretch <= WIDE:
        extent = "wide" if found.stretch > 0 else "tall"
        notes.append(STRETCH_NOTE.format(factor=math.exp(abs(found.stretch)), extent=extent))
    if found.size < SMALL:
        notes.append(SMALL_NOTE.format(share=math.exp(found.size)))
    return notes


def estimate_proportions(levels: np.ndarray) -> Proportions:
    """Estimate the proportions of the upright hand in a picture uint8 [H, W], bones bright."""
    return Proportions(*map(float, run_network(WEIGHTS, thumbnail(levels))))


def thumbnail(levels: np.ndarray, px: int = PX) -> np.ndarray:
    """What the network sees: float32 [px, px] in [0, 1], the whole picture on black."""
    height, width = levels.shape
    scale = px / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(levels).resize(size, Image.Resampling.BOX), np.float32) / 255
    canvas = np.zeros((px, px), np.float32)
    left, top = (px - size[0]) // 2, (px - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas
