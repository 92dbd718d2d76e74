"""Gray levels to the square that the networks read: margins cut, levels stretched, bones bright."""

import math

import numpy as np
from PIL import Image

from baa.data.read.polarity import is_negative
from baa.data.read.radiograph import Frame, Gray, Radiograph
from baa.data.read.shrink import Box, resized

PERCENTILES = (0.5, 98.5)
"""Levels between these become 0 to 255. The few pixels above are burnt-in letters and metal markers, brighter than bone."""

COARSE_PX = 96
"""On an image this small noise is averaged out, and the rows outside of the collimation have one level."""

COARSE_RANGE, COARSE_PERCENTILES = 0.03, (2, 98)
"""A coarse row belongs to the margin if most of it differs by at most this share of the range of the image's levels."""

NOISE_SPREAD = 5.5
"""Times the mean step between neighbors: half as much again as the spread of `COARSE_PERCENTILES` of white noise (3.6)."""

LEAST_STEP = 0.005
"""The film begins where levels leave those of its margin by this share of the range of the image's levels."""

PASSES = 4
"""Of the coarse search: a second margin may lie inside a noisy one."""

EXACT_RANGE = 0.01
"""A row of the image itself belongs to the margin if all of it does."""

MARGIN = 0.02
"""The smallest share of the image that is cut as a margin, on each side by itself."""

LEAST_KEPT = 0.3
"""If less than this share of a side is left between the margins, nothing is cut."""

SMALL_SHARE = 0.9
SMALL_NOTE = (
    "only {width} x {height} pixels, the model reads {px}: the age may be wrong by several months; give a larger picture"
)
POLARITY_NOTE = "it looks like a negative, against what the file declares; look at the picture, and invert it if bones are dark"
NEARLY_SQUARE = 0.03
"""Of 1,500 radiographs, 4 % are as near to a square."""

PADDED = 0.85
"""A square picture whose film fills less of a side was padded, not squeezed."""

SQUARE_NOTE = "square or nearly so: if it was squeezed from another shape, the age can be wrong by years; give the original"


def make_radiograph(gray: Gray, px: int) -> Radiograph:
    """Make the square radiograph of `px` from what a file holds.

    The margin around the film is cut. The longer side of the rest fills the square, and what remains is black. Levels are
    stretched after shrinking, before they are rounded: images of 8 and of 16 bits give the same pixels.
    """
    box = content(gray.levels)
    levels = _stretched(shrink(gray.levels, px, box))
    negative = is_negative(levels)
    inverted = negative and not gray.declared
    height, width = gray.levels.shape
    return Radiograph(
        on_square(255 - levels if inverted else levels),
        width,
        height,
        frame_of(box),
        inverted,
        gray.patient,
        (*gray.notes, *_notes(width, height, box, px), *((POLARITY_NOTE,) if negative and gray.declared else ())),
    )


def levels_on_square(levels: np.ndarray, px: int) -> np.ndarray:
    """Stretch gray levels [H, W] of a positive and pad them to a square: uint8 [px, px].

    Example:
        >>> pixels = levels_on_square(np.add.outer(np.arange(80.0), np.arange(60.0)), 64)
        >>> pixels.shape, pixels.dtype
        ((64, 64), dtype('uint8'))
    """
    return make_radiograph(Gray(levels, declared=True), px).pixels


def content(levels: np.ndarray) -> Box:
    """Find the exposed film inside its margins: padding, and what collimation left dark, gray or bright."""
    box = _inside(levels, EXACT_RANGE, (0, 100))
    for _ in range(PASSES):
        inner = _coarse_content(levels, box)
        if inner == box:
            break
        box = inner
    return box


def _coarse_content(levels: np.ndarray, box: Box) -> Box:
    """Search a part of an image on a coarse grid, which averages noise; then find the exact edges."""
    left, top, right, bottom = box
    scale = COARSE_PX / max(right - left, bottom - top)
    if scale >= 0.5:
        return box
    size = max(2, round((right - left) * scale)), max(2, round((bottom - top) * scale))
    coarse = resized(levels, size, box, Image.Resampling.BOX)
    part = levels[top:bottom, left:right]
    inner = _inside(coarse, COARSE_RANGE, COARSE_PERCENTILES, _noise(part, size))
    least = LEAST_STEP * float(np.ptp(coarse))
    found = []
    for axis, (lines, first, last) in enumerate(((part.T, left, right), (part, top, bottom))):
        unit = len(lines) / size[axis]
        before, after = inner[axis] * unit, (size[axis] - inner[axis + 2]) * unit
        found.append((first + _exact_edge(lines, before, unit, least), last - _exact_edge(lines[::-1], after, unit, least)))
    (left, right), (top, bottom) = found
    return left, top, right, bottom


def _exact_edge(lines: np.ndarray, edge: float, unit: float, least: float) -> int:
    """Where the margin above `edge` ends, which is known to one coarse row of `unit` lines: levels step by `least` or more."""
    margin = lines[: max(0, math.floor(edge - unit))]
    if not len(margin):
        return round(edge)
    low, high = np.percentile(margin[-math.ceil(unit) :], COARSE_PERCENTILES)
    near = lines[len(margin) : math.ceil(edge + unit)]
    slack = max((high - low) / 2, least)
    lowest, highest = np.percentile(near, COARSE_PERCENTILES, axis=1)
    film = np.flatnonzero((lowest < low - slack) | (highest > high + slack))
    return len(margin) + (int(film[0]) if len(film) else len(near))


def _noise(levels: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The spread that noise alone gives to each column and row of the image, once it is shrunk to `size`."""
    spreads = []
    cell = math.sqrt(levels.size / (size[0] * size[1]))
    for lines, count in ((levels.T, size[0]), (levels, size[1])):
        middles = ((np.arange(count) + 0.5) * len(lines) / count).astype(int)
        steps = np.abs(np.diff(lines[middles].astype(np.float32), axis=1))
        spreads.append(NOISE_SPREAD * steps.mean(axis=1) / cell)
    return spreads[0], spreads[1]


def _inside(
    levels: np.ndarray, most: float, percentiles: tuple[int, int], noise: tuple[np.ndarray, np.ndarray] | None = None
) -> Box:
    """The part of an image between its outermost rows and columns whose levels differ by more than a share of all levels'."""
    low, high = (float(levels.min()), float(levels.max())) if percentiles == (0, 100) else np.percentile(levels, (1, 99))
    edges = []
    for axis in (0, 1):
        if percentiles == (0, 100):
            spread = levels.max(axis=axis).astype(np.float32) - levels.min(axis=axis).astype(np.float32)
        else:
            spread = np.subtract(*np.percentile(levels, percentiles[::-1], axis=axis))
        limit = most * (high - low) if noise is None else np.maximum(most * (high - low), noise[axis])
        varied, side = np.flatnonzero(spread > limit), levels.shape[1 - axis]
        first, last = (int(varied[0]), int(varied[-1]) + 1) if len(varied) else (0, side)
        first, last = (first if first >= MARGIN * side else 0), (last if side - last >= MARGIN * side else side)
        edges.append((first, last) if last - first >= LEAST_KEPT * side else (0, side))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def frame_of(box: Box) -> Frame:
    """Return the smallest square around a part of an image, with the same center."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    return Frame((left + right - side) / 2, (top + bottom - side) / 2, float(side))


def shrink(levels: np.ndarray, px: int, box: Box) -> np.ndarray:
    """Resize the longer side of a part of an image to `px` and keep the aspect: float32."""
    left, top, right, bottom = box
    scale = px / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    return resized(levels, size, box, Image.Resampling.BILINEAR)


def on_square(levels: np.ndarray) -> np.ndarray:
    """Center on the smallest black square: uint8 [H, W] -> uint8 [S, S]."""
    height, width = levels.shape
    side = max(height, width)
    square = np.zeros((side, side), np.uint8)
    left, top = (side - width) // 2, (side - height) // 2
    square[top : top + height, left : left + width] = levels
    return square


def _stretched(levels: np.ndarray) -> np.ndarray:
    """Stretch the levels between `PERCENTILES` over 0 to 255: uint8 [H, W]."""
    low, high = np.percentile(levels, PERCENTILES)
    return np.rint(((levels - low) * (255.0 / max(high - low, 1e-6))).clip(0, 255)).astype(np.uint8)


def _notes(width: int, height: int, box: Box, px: int) -> list[str]:
    left, top, right, bottom = box
    notes = []
    if max(right - left, bottom - top) < SMALL_SHARE * px:
        notes.append(SMALL_NOTE.format(width=right - left, height=bottom - top, px=px))
    padded = min((right - left) / width, (bottom - top) / height) < PADDED
    if _nearly_square(right - left, bottom - top) or (_nearly_square(width, height) and not padded):
        notes.append(SQUARE_NOTE)
    return notes


def _nearly_square(width: int, height: int) -> bool:
    return abs(width - height) <= NEARLY_SQUARE * max(width, height)
