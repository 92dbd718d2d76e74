"""Whether a picture is a negative: dark bones on a bright background. For files that do not declare their polarity.

A small network decides. `baa.training.polarity` trains it. It runs in NumPy, because decoders do not import torch.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

WEIGHTS = Path(__file__).with_name("polarity.npz")

PX = 64
CHANNELS = (1, 16, 32, 64)
KERNEL = 3
PERCENTILES = (1.0, 99.0)

SURE = 0.5
"""Logit from which a picture counts as a negative. In doubt it counts as a positive."""

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Kernels [out, in * 3 * 3] and offsets [out] of the convolutions, then weights [64] and offset of the last layer."""


def is_negative(levels: np.ndarray) -> bool:
    """Whether gray levels [H, W] of any range are those of a negative."""
    return polarity_logit(levels) > SURE


def polarity_logit(levels: np.ndarray) -> float:
    """The log-odds that a picture is a negative; the inverted picture has the same with the other sign."""
    picture = thumbnail(levels)
    return _logit(picture) - _logit(1 - picture)


def thumbnail(levels: np.ndarray) -> np.ndarray:
    """What the network sees: float32 [64, 64] in [0, 1], squeezed to a square, so that no border is added."""
    small = np.asarray(Image.fromarray(levels.astype(np.float32)).resize((PX, PX), Image.Resampling.BOX))
    low, high = np.percentile(small, PERCENTILES)
    return ((small - low) / max(high - low, 1e-6)).clip(0, 1).astype(np.float32)


@cache
def _layers() -> Layers:
    with np.load(WEIGHTS) as stored:
        return [(stored[f"weight{i}"].astype(np.float32), stored[f"bias{i}"].astype(np.float32)) for i in range(len(CHANNELS))]


def _logit(picture: np.ndarray) -> float:
    *convolutions, (last, offset) = _layers()
    features = picture[None]
    for (weight, bias), (inputs, outputs) in zip(convolutions, pairwise(CHANNELS), strict=True):
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
        windows = sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2))[:, ::2, ::2]  # in, h, w, 3, 3
        h, w = windows.shape[1:3]
        columns = windows.transpose(0, 3, 4, 1, 2).reshape(inputs * KERNEL**2, h * w)
        features = np.maximum(weight @ columns + bias[:, None], 0).reshape(outputs, h, w)
    return float(last @ features.mean(axis=(1, 2)) + offset[0])
