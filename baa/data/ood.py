"""Out-of-distribution images from radiographs of one upright hand: rotated, half, two hands, a detail, shuffled tiles, noise.

A network that learns to recognize such corruptions also detects unseen kinds of inputs: Hendrycks et al., "Using
Self-Supervised Learning Can Improve Model Robustness and Uncertainty", NeurIPS 2019, https://arxiv.org/abs/1906.12340.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage

from baa.data.read.square import levels_on_square

KEPT = (0.4, 0.6)
"""Range of the share of the image that remains of a half hand."""

CLOSE = (0.2, 0.35)
"""Range of the side of a detail, as a share of the image."""

PIECES = 6
"""Shuffled tiles per side."""

GRAINS_PX = (0.0, 1.0, 3.0, 8.0, 20.0, 40.0)
"""Standard deviations of the Gaussian blur of noise images, in pixels."""


def corruptions(film: np.ndarray, other: np.ndarray, rng: np.random.Generator, some: int | None = None) -> Iterator[np.ndarray]:
    """Yield three rotations of a radiograph, then one image of each other corruption.

    Args:
        film: a square radiograph [S, S] uint8.
        other: a second radiograph, for two hands in one image.
        rng: random generator.
        some: how many of the other corruptions, drawn at random; None for all five.

    Yields:
        [S, S] uint8. Like image files, all but the rotations are padded to a square and their gray levels are stretched.
    """
    for quarters in (1, 2, 3):
        yield np.rot90(film, quarters).copy()
    px = len(film)
    others: list[Callable[[], np.ndarray]] = [
        lambda: _half(film, rng),
        lambda: _pair(film, other, rng),
        lambda: _close(film, rng),
        lambda: _pieces(film, rng),
        lambda: _grains(px, rng),
    ]
    for corrupted in others if some is None else [others[i] for i in rng.permutation(len(others))[:some]]:
        yield levels_on_square(np.ascontiguousarray(corrupted()), px)


def _half(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = int(rng.integers(4))
    return np.rot90(np.rot90(film, side)[: int(len(film) * rng.uniform(*KEPT))], -side)


def _pair(film: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([film, other[:, ::-1] if rng.random() < 0.7 else other], axis=1)


def _close(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    px = len(film)
    side = max(4, int(px * rng.uniform(*CLOSE)))
    y, x = rng.integers(px // 6, px - px // 6 - side, 2)
    return film[y : y + side, x : x + side]


def _pieces(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    side = len(film) // PIECES
    grid = film[: side * PIECES, : side * PIECES].reshape(PIECES, side, PIECES, side).transpose(0, 2, 1, 3)
    mixed = rng.permutation(grid.reshape(PIECES**2, side, side))
    return mixed.reshape(PIECES, PIECES, side, side).transpose(0, 2, 1, 3).reshape(side * PIECES, side * PIECES)


def _grains(px: int, rng: np.random.Generator) -> np.ndarray:
    grains = ndimage.gaussian_filter(rng.normal(size=(px, px)).astype(np.float32), rng.choice(GRAINS_PX))
    shares = (grains - grains.min()) / max(float(np.ptp(grains)), 1e-6)
    return (shares ** rng.choice([0.5, 1.0, 2.0]) * 255).astype(np.uint8)
