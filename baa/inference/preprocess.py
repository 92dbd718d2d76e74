"""From an image file to the input `source` of an exported model. Written by baa.export; needs NumPy and Pillow.

Levels of a DICOM file need its modality and VOI look-up tables first (pydicom). Bones are bright: invert a negative before.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

SIDE = 384


def read_levels(file: str) -> np.ndarray:
    """Gray levels [H, W] of a PNG, JPEG or TIFF file, of 8 or 16 bits."""
    image = ImageOps.exif_transpose(Image.open(file))
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image, np.float32)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    return np.asarray(image.convert("L"), np.float32)


def find_film(levels: np.ndarray) -> tuple[int, int, int, int]:
    """The exposed film inside its margins, which may be noisy: left, top, right, bottom."""
    box = _varied(levels, levels.min(), levels.max(), 0.01, (0, 100))
    for _ in range(4):  # under a noisy margin may lie the film's own
        if (inner := _coarse_film(levels, box)) == box:
            break
        box = inner
    return box


def _coarse_film(levels: np.ndarray, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Search on a coarse image, which averages noise; then find the exact edges."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    scale = 96 / max(width, height)
    if scale >= 0.5:
        return box
    size = max(2, round(width * scale)), max(2, round(height * scale))
    image = Image.fromarray(levels.astype(np.float32))
    coarse = np.asarray(image.resize(size, Image.Resampling.BOX, box, reducing_gap=1.5))
    part, cell = levels[top:bottom, left:right], math.sqrt(width * height / (size[0] * size[1]))
    noise = []
    for lines, count in ((part.T, size[0]), (part, size[1])):
        middles = lines[((np.arange(count) + 0.5) * len(lines) / count).astype(int)]
        noise.append(5.5 * np.abs(np.diff(middles, axis=1)).mean(axis=1) / cell)
    low, high = np.percentile(coarse, (1, 99))
    inner, least = _varied(coarse, low, high, 0.03, (2, 98), noise), 0.005 * float(np.ptp(coarse))
    found = []
    for axis, (lines, first, last) in enumerate(((part.T, left, right), (part, top, bottom))):
        unit = len(lines) / size[axis]
        before, after = inner[axis] * unit, (size[axis] - inner[axis + 2]) * unit
        found.append((first + _exact_edge(lines, before, unit, least), last - _exact_edge(lines[::-1], after, unit, least)))
    return found[0][0], found[1][0], found[0][1], found[1][1]


def _exact_edge(lines: np.ndarray, edge: float, unit: float, least: float) -> int:
    """The first line near `edge` whose levels leave those of the margin before it."""
    margin = lines[: max(0, math.floor(edge - unit))]
    if not len(margin):
        return round(edge)
    low, high = np.percentile(margin[-math.ceil(unit) :], (2, 98))
    slack, near = max((high - low) / 2, least), lines[len(margin) : math.ceil(edge + unit)]
    lowest, highest = np.percentile(near, (2, 98), axis=1)
    film = np.flatnonzero((lowest < low - slack) | (highest > high + slack))
    return len(margin) + (int(film[0]) if len(film) else len(near))


def _varied(
    levels: np.ndarray, low: float, high: float, most: float, percentiles: tuple[int, int], noise: Sequence[Any] = (0, 0)
) -> tuple[int, int, int, int]:
    """The part between the outermost columns and rows whose levels differ by more than a share of the range, and than noise."""
    spans = []
    for axis, side in enumerate(levels.shape[::-1]):
        least, greatest = np.percentile(levels, percentiles, axis=axis)
        varied = np.flatnonzero(greatest - least > np.maximum(most * (high - low), noise[axis]))
        first, last = (int(varied[0]), int(varied[-1]) + 1) if len(varied) else (0, side)
        first, last = (first if first >= 0.02 * side else 0), (last if side - last >= 0.02 * side else side)
        spans.append((first, last) if last - first >= 0.3 * side else (0, side))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def preprocess(levels: np.ndarray) -> np.ndarray:
    """Gray levels [H, W] of a positive as float32 [1, 1, SIDE, SIDE] in 0 to 1: concatenate several for a batch."""
    left, top, right, bottom = find_film(levels)
    scale = SIDE / max(right - left, bottom - top)
    width, height = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    image, box = Image.fromarray(levels.astype(np.float32)), (left, top, right, bottom)
    fine = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box, reducing_gap=1.5))  # averages areas
    low, high = np.percentile(fine, (0.5, 98.5))
    fine = np.rint(((fine - low) * (255 / max(high - low, 1e-6))).clip(0, 255)).astype(np.float32)
    source = np.zeros((1, 1, SIDE, SIDE), np.float32)
    x, y = (SIDE - width) // 2, (SIDE - height) // 2
    source[0, 0, y : y + height, x : x + width] = fine / 255
    return source
