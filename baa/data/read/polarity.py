"""Whether a picture is a negative: dark bones on a bright background. For files that do not declare their polarity.

A small network decides. `baa.training.polarity` trains it.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from baa.data.read.shrink import block_means
from baa.data.read.small_network import run_network

WEIGHTS = Path(__file__).with_name("polarity.npz")

PX = 64
FINE_PX = 1024
"""Larger pictures are averaged in whole blocks to at least this side before."""

CHANNELS = (1, 16, 32, 64)
PERCENTILES = (1.0, 99.0)

SURE = 0.5
"""Logit from which a picture counts as a negative. In doubt it counts as a positive."""


def is_negative(levels: np.ndarray) -> bool:
    """Return whether gray levels [H, W] of any range are those of a negative.

    Example:
        >>> levels = np.add.outer(np.arange(80.0), np.arange(60.0))
        >>> is_negative(levels) and is_negative(-levels)
        False
    """
    return polarity_logit(levels) > SURE


def polarity_logit(levels: np.ndarray) -> float:
    """Compute the log-odds that a picture [H, W] is a negative; the inverted picture has the opposite log-odds."""
    picture = thumbnail(levels)
    return float((run_network(WEIGHTS, picture) - run_network(WEIGHTS, 1 - picture)).item())


def thumbnail(levels: np.ndarray) -> np.ndarray:
    """Make the input of the network: float32 [64, 64] in [0, 1], squeezed to a square, so that no border is added."""
    fine = block_means(levels, (max(1, levels.shape[1] // FINE_PX), max(1, levels.shape[0] // FINE_PX)))
    small = np.asarray(Image.fromarray(fine).resize((PX, PX), Image.Resampling.BOX))
    low, high = np.percentile(small, PERCENTILES)
    return ((small - low) / max(high - low, 1e-6)).clip(0, 1).astype(np.float32)
