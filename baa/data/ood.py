"""What is not one whole upright hand, made of radiographs that are: turned, halved, doubled, come too close to, in pieces.

That a network which has learnt to tell such things apart also notices what it was never shown is from Hendrycks et al., "Using
Self-Supervised Learning Can Improve Model Robustness and Uncertainty", NeurIPS 2019, https://arxiv.org/abs/1906.12340.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy import ndimage

from baa.data.radiograph import levels_on_square

KEPT = (0.4, 0.6)
"""Of a hand's side, where one is halved."""

CLOSE = (0.2, 0.35)
PIECES = 6
GRAINS_PX = (0.0, 1.0, 3.0, 8.0, 20.0, 40.0)


def mishaps(film: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """One of each kind.

    Args:
        film: a square radiograph [S, S] uint8.
        other: another one.
        rng: what is drawn from.

    Yields:
        [S, S] uint8, with levels stretched and padded to a square as files are read.
    """
    for quarters in (1, 2, 3):
        yield np.rot90(film, quarters).copy()
    px = len(film)
    for levels in (_half(film, rng), _pair(film, other, rng), _close(film, rng), _pieces(film, rng), _grains(px, rng)):
        yield levels_on_square(Image.fromarray(np.ascontiguousarray(levels)), px)[0]


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
