"""From an image file to the input `source` of an exported model. Written by baa.export; needs NumPy and Pillow.

Levels of a DICOM file need its modality and VOI look-up tables first (pydicom). Bones are bright: invert a negative before.
"""

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
    """The exposed film inside its margins: left, top, right, bottom. A second search on a coarse image ignores noise."""
    left, top, right, bottom = _varied(levels, levels.min(), levels.max(), 0.01, (0, 100))
    width, height = right - left, bottom - top
    scale = 96 / max(width, height)
    if scale >= 0.5:
        return left, top, right, bottom
    size = max(2, round(width * scale)), max(2, round(height * scale))
    image = Image.fromarray(levels.astype(np.float32))
    coarse = np.asarray(image.resize(size, Image.Resampling.BOX, (left, top, right, bottom), reducing_gap=1.5))
    low, high = np.percentile(coarse, (1, 99))
    x0, y0, x1, y1 = _varied(coarse, low, high, 0.03, (2, 98))
    x, y = width / size[0], height / size[1]
    return left + round(x0 * x), top + round(y0 * y), left + round(x1 * x), top + round(y1 * y)


def _varied(
    levels: np.ndarray, low: float, high: float, most: float, percentiles: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The part between the outermost rows and columns whose levels differ by more than a share of the range."""
    spans = []
    for axis, side in enumerate(levels.shape[::-1]):
        least, greatest = np.percentile(levels, percentiles, axis=axis)
        varied = np.flatnonzero(greatest - least > most * (high - low))
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
