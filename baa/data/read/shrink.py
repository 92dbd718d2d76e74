"""Work on large images a few rows at a time, so that no copy of them in floating point numbers is needed."""

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image

REDUCING_GAP = 1.5
"""The filter shrinks by at least this factor, after whole blocks are averaged. Error on 1,500 x 2,000 px: 0.2 gray levels."""

SUPPORT = {Image.Resampling.BOX: 0.5, Image.Resampling.BILINEAR: 1.0}
"""Reach of a filter, in pixels of its output."""

BAND_VALUES = 1 << 20
"""About this many values are converted at a time."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom edge, in pixels."""


def resized(levels: np.ndarray, size: tuple[int, int], box: Box, resample: Image.Resampling) -> np.ndarray:
    """Resize a part of an image, as Pillow does with `REDUCING_GAP`, but convert a few rows at a time.

    Args:
        levels: [H, W] of any number type.
        size: width and height of the result.
        box: the part.
        resample: a key of `SUPPORT`.

    Returns:
        float32.
    """
    left, top, right, bottom = box
    scale_x, scale_y = (right - left) / size[0], (bottom - top) / size[1]
    x, y = max(1, int(scale_x / REDUCING_GAP)), max(1, int(scale_y / REDUCING_GAP))
    height, width = levels.shape
    if (x, y) == (1, 1):
        return np.asarray(Image.fromarray(levels.astype(np.float32)).resize(size, resample, box))
    reach = SUPPORT[resample] - 0.5
    x0, y0 = max(0, int(left - reach * scale_x)), max(0, int(top - reach * scale_y))
    x1, y1 = min(width, math.ceil(right + reach * scale_x)), min(height, math.ceil(bottom + reach * scale_y))
    blocks = block_means(levels[y0:y1, x0:x1], (x, y))
    inner = ((left - x0) / x, (top - y0) / y, (right - x0) / x, (bottom - y0) / y)
    return np.asarray(Image.fromarray(blocks).resize(size, resample, inner))


def resized_width(levels: np.ndarray, width: int) -> np.ndarray:
    """Resize each row by itself: float32.

    Args:
        levels: [H, W] float32.
        width: of the result.

    Example:
        >>> resized_width(np.array([[0, 4, 8, 12]], np.float32), 2)
        array([[2.857143, 9.142858]], dtype=float32)
    """
    result = np.empty((len(levels), width), np.float32)
    for rows in bands((len(levels), max(width, levels.shape[1]))):
        band = Image.fromarray(levels[rows])
        result[rows] = np.asarray(band.resize((width, band.height), Image.Resampling.BILINEAR))
    return result


def block_means(levels: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Average blocks of pixels: float32. Those at the right and lower edge may be smaller.

    Args:
        levels: [H, W] of any number type.
        block: width and height.

    Example:
        >>> block_means(np.arange(8, dtype=np.uint8).reshape(2, 4), (2, 2))
        array([[2.5, 4.5]], dtype=float32)
    """
    x, y = block
    height, width = levels.shape
    means = np.empty((-(-height // y), -(-width // x)), np.float32)
    for rows in bands((len(means), width * y)):
        band = levels[rows.start * y : rows.stop * y].astype(np.float32)
        means[rows] = np.asarray(Image.fromarray(band).reduce(block))
    return means


def bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the rows of an array, in slices of about `BAND_VALUES` values."""
    rows = max(1, BAND_VALUES // max(1, math.prod(shape[1:])))
    return (slice(first, min(first + rows, shape[0])) for first in range(0, shape[0], rows))
