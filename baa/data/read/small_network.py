"""A small convolutional network in NumPy, because decoders do not import torch. See `baa.training.small_network`."""

import math
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

KERNEL = 3

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Kernels [out, in * 3 * 3] and offsets [out] of the convolutions; then [N, channels * cells] and [N] of the last layer."""


def run_network(weights: Path, picture: np.ndarray) -> np.ndarray:
    """Run convolutions of stride 2 with ReLU, the average over the picture or over cells of it, a linear layer.

    Args:
        weights: an .npz file with `weight0`, `bias0` and so on.
        picture: float32 [px, px].

    Returns:
        The outputs, float32 [N].

    Example:
        >>> from baa.data.read.polarity import PX, WEIGHTS
        >>> run_network(WEIGHTS, np.zeros((PX, PX), np.float32)).shape
        (1,)
    """
    *convolutions, (last, offset) = _layers(weights)
    features = picture[None]
    for weight, bias in convolutions:
        inputs = len(features)
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
        windows = sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2))[:, ::2, ::2]  # in, h, w, 3, 3
        h, w = windows.shape[1:3]
        columns = windows.transpose(0, 3, 4, 1, 2).reshape(inputs * KERNEL**2, h * w)
        features = np.maximum(weight @ columns + bias[:, None], 0).reshape(len(bias), h, w)
    side = math.isqrt(last.shape[1] // len(features))
    cell = features.shape[1] // side
    pooled = features.reshape(len(features), side, cell, side, cell).mean(axis=(2, 4))
    outputs: np.ndarray = last @ pooled.reshape(-1) + offset
    return outputs


@cache
def _layers(weights: Path) -> Layers:
    with np.load(weights) as stored:
        count = len(stored.files) // 2
        return [(stored[f"weight{i}"].astype(np.float32), stored[f"bias{i}"].astype(np.float32)) for i in range(count)]
