"""One radiograph: from the bytes of a file to square grey pixels, polarity settled."""

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from baa.data.dicom import Patient, is_dicom, read_dicom
from baa.errors import InputError

PERCENTILES = (0.5, 98.5)
"""Intensities between these become 0 to 255: burnt-in letters and metal markers are brighter than any bone, and few."""

SAMPLE_BYTES = 4096
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_PIXELS = 48_000_000
"""A film of 24 x 30 cm at 600 dots an inch has 40 million; little enough to be held several times over in 2 GiB."""

MAX_BYTES = 512 << 20

FORMATS = ("PNG", "JPEG", "TIFF")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")

GREY_OR_RGB = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "F"})
"""Modes of Pillow's; those of 16 bits and more begin with I."""

REDUCING_GAP = 1.5
"""Shrinking that is left to the filter after averaging: on films of 1,500 x 2,000 px 0.2 grey levels off the filter alone."""

POLARITY_PX, POLARITY_BLUR_PX, POLARITY_RIM_PX, NEGATIVE_SKEWNESS = 160, 4, 8, -0.33
"""On 1,164 RSNA radiographs, none a negative: one is taken for one, and 76 % of their negatives are recognised."""


class Radiograph(NamedTuple):
    """Grey pixels [S, S] uint8, the size of the file's image, and whether it was a negative that has been turned.

    Of a DICOM file also what it says of the patient, and in words what was odd about it.
    """

    pixels: np.ndarray
    width: int
    height: int
    inverted: bool
    patient: Patient = Patient()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFile:
    """Where an image lies: a file, or a stretch of a tar."""

    path: Path
    offset: int = 0
    size: int | None = None
    member: str = ""

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def fingerprint(self) -> bytes:
        """What an edit changes: of a PNG, which ends in a checksum, the size and both ends; of another file every byte."""
        with self.path.open("rb") as file:
            size = self.size if self.size is not None else file.seek(0, io.SEEK_END)
            file.seek(self.offset)
            first = file.read(min(size, SAMPLE_BYTES))
            if not first.startswith(PNG_SIGNATURE):
                return first + hashlib.sha256(file.read(min(size, MAX_BYTES) - len(first))).digest()
            file.seek(self.offset + max(0, size - SAMPLE_BYTES))
            return b"%d:" % size + first + file.read(min(size, SAMPLE_BYTES))

    def load(self, px: int) -> Radiograph:
        """Decode, and pad to a square of `px`.

        Raises:
            InputError: not an image, truncated, or of a kind that no radiograph is stored in.
        """
        with self.path.open("rb") as file:
            if self.size is None and (size := file.seek(0, io.SEEK_END)) > MAX_BYTES:
                raise InputError(f"a file of {size >> 20} MiB; the limit is {MAX_BYTES >> 20}")
            file.seek(self.offset)
            return decode(file.read(self.size if self.size is not None else -1), px)


def decode(data: bytes, px: int) -> Radiograph:
    """The bytes of a PNG, JPEG or TIFF (8 or 16 bit, grey or colour) or of a DICOM file to a square radiograph of `px`.

    Raises:
        InputError: the bytes are no such image, of more than `MAX_PIXELS`, or end too soon.
    """
    patient, notes = Patient(), tuple[str, ...]()
    if is_dicom(data):
        grey, patient, notes = read_dicom(data, MAX_PIXELS)
    else:
        grey = _picture(data)
    if min(grey.size) < 2:
        raise InputError(f"an image of {grey.width} x {grey.height} pixels")
    levels, inverted = levels_on_square(grey, px)
    return Radiograph(levels, *grey.size, inverted, patient, notes)


def levels_on_square(grey: Image.Image, px: int) -> tuple[np.ndarray, bool]:
    """What the networks see of a grey image, uint8 [px, px], and whether it was a negative and was turned.

    Levels are stretched, the longer side fills the square, the rest of it is black.
    """
    fine = shrink(grey, max(px, POLARITY_PX))
    low, high = _percentiles(fine)
    levels = _stretched(fine, low, high)
    inverted = is_negative(levels)
    if px < POLARITY_PX:
        levels = _stretched(shrink(grey, px), low, high)
    return on_square(255 - levels if inverted else levels), inverted


def _picture(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                limit = f"the limit is {MAX_PIXELS // 1_000_000} million"
                raise InputError(f"an image of {image.width} x {image.height} pixels; {limit}")
            if (frames := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
                raise InputError(f"{frames} images in one; give one radiograph a file")
            if image.mode not in GREY_OR_RGB and not image.mode.startswith("I"):
                raise InputError(f"an image in {image.mode}; radiographs are grey, or grey stored as RGB")
            return _grey(image)
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError("not an image in PNG, JPEG, TIFF or DICOM") from error
    except Exception as error:  # whatever a damaged file makes of a decoder
        raise InputError(f"a damaged image: {error}" if str(error) else "an image that cannot be decoded") from error


def _grey(image: Image.Image) -> Image.Image:
    """One channel: 8 bits, or floating point where there were more."""
    if image.mode.startswith("I") or image.mode == "F":
        grey = image.convert("I").convert("F") if image.mode != "F" else image.copy()
        if not np.isfinite(np.asarray(grey)).all():
            raise InputError("an image whose levels are not all numbers")
        return grey
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L")


def _percentiles(grey: Image.Image) -> tuple[float, float]:
    if grey.mode == "F":
        low, high = np.percentile(np.asarray(grey), PERCENTILES)
        return float(low), float(high)
    share = np.cumsum(grey.histogram()) / (grey.width * grey.height) * 100
    low, high = np.searchsorted(share, PERCENTILES)
    return float(low), float(high)


def shrink(grey: Image.Image, px: int) -> Image.Image:
    """The longer side to `px`, aspect kept; whole factors are averaged first, which saves a third of the time."""
    scale = px / max(grey.size)
    size = max(1, round(grey.width * scale)), max(1, round(grey.height * scale))
    return grey.resize(size, Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)


def _stretched(grey: Image.Image, low: float, high: float) -> np.ndarray:
    """The levels between `low` and `high` stretched over 0 to 255: uint8 [H, W]."""
    scale = 255.0 / max(high - low, 1e-6)
    values = np.arange(256, dtype=np.float32) if grey.mode == "L" else np.asarray(grey, np.float32)
    stretched = ((values - low) * scale).clip(0, 255).astype(np.uint8)
    return np.asarray(grey.point(stretched.tolist())) if grey.mode == "L" else stretched


def is_negative(levels: np.ndarray) -> bool:
    """Whether the background is bright: uint8 [H, W], already stretched.

    Bones and fingers are narrow: against their blurred surroundings they stand out to the bright side in a positive, to the
    dark side in a negative, whatever frames and letters do to the mean. So the sign of the skewness of what blurring takes away
    tells them apart, and the middle grey level has to agree. The threshold errs on the side of leaving an image as it is.
    """
    film = Image.fromarray(levels)
    middle = np.searchsorted(np.cumsum(film.histogram()), levels.size / 2)
    small = shrink(film, POLARITY_PX)
    coarse = small.filter(ImageFilter.GaussianBlur(POLARITY_BLUR_PX))
    detail = np.asarray(small, np.float32) - np.asarray(coarse, np.float32)
    rim = min(POLARITY_RIM_PX, (min(detail.shape) - 1) // 2)  # films have bright or dark edges
    detail = detail[rim : len(detail) - rim, rim : detail.shape[1] - rim]
    standard = (detail / (detail.std() + 1e-6)).clip(-4, 4)
    return bool(middle > 127 and (standard * standard * standard).mean() < NEGATIVE_SKEWNESS)


def on_square(levels: np.ndarray) -> np.ndarray:
    """Centred on the smallest black square: uint8 [H, W] -> uint8 [S, S]."""
    height, width = levels.shape
    side = max(height, width)
    square = np.zeros((side, side), np.uint8)
    left, top = (side - width) // 2, (side - height) // 2
    square[top : top + height, left : left + width] = levels
    return square


def boxes_in_file(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Boxes [..., 4] in shares of the square to pixels of the image that was padded to it."""
    left, top, side = padding(width, height)
    return (boxes - np.array([left, top, left, top])) * side


def padding(width: int, height: int) -> tuple[float, float, float]:
    """Of a padded radiograph: left and top margin, as shares of the square, and source pixels a square side."""
    side = max(width, height)
    return (side - width) / (2 * side), (side - height) / (2 * side), float(side)
