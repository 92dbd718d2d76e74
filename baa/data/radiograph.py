"""The bytes of an image file to a radiograph: square gray pixels, bones bright."""

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
"""Levels between these become 0 to 255. The few pixels above are burnt-in letters and metal markers, brighter than bone."""

SAMPLE_BYTES = 4096
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_PIXELS = 48_000_000
"""A film of 24 x 30 cm at 600 dpi has 40 million. 2 GiB hold several copies of this many."""

MAX_BYTES = 512 << 20

FORMATS = ("PNG", "JPEG", "TIFF")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")

CHANNELS = (1, 3, 4)
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue, as Pillow has them."""

GRAY_OR_RGB = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "F"})
"""Pillow modes that are accepted, besides those of 16 or more bits, which begin with I."""

REDUCING_GAP = 1.5
"""The filter shrinks by at least this factor, after whole blocks are averaged. Error on 1,500 x 2,000 px: 0.2 gray levels."""

POLARITY_PX, POLARITY_BLUR_PX, POLARITY_RIM_PX, NEGATIVE_SKEWNESS = 160, 4, 8, -0.33
"""Measured on 1,164 RSNA radiographs, all positives: 1 is taken for a negative; of their negatives 76 % are detected."""


class Radiograph(NamedTuple):
    """A decoded radiograph.

    pixels: uint8 [S, S], bones bright, padded with black.
    width, height: of the image in the file.
    inverted: it was a negative and its levels have been inverted.
    patient: from a DICOM header.
    notes: what is unusual about a DICOM file, in words.
    """

    pixels: np.ndarray
    width: int
    height: int
    inverted: bool
    patient: Patient = Patient()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFile:
    """The location of an image: a file, or bytes of a tar."""

    path: Path
    offset: int = 0
    size: int | None = None
    member: str = ""

    @property
    def name(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def fingerprint(self) -> bytes:
        """Bytes that any edit changes. For a PNG, which ends in a checksum: size, first and last bytes. Else all, hashed."""
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
            InputError: as `decode`, or the file is larger than `MAX_BYTES`.
        """
        with self.path.open("rb") as file:
            if self.size is None and (size := file.seek(0, io.SEEK_END)) > MAX_BYTES:
                raise InputError(f"the file has {size >> 20} MiB; the limit is {MAX_BYTES >> 20}")
            file.seek(self.offset)
            return decode(file.read(self.size if self.size is not None else -1), px)


def decode(data: bytes, px: int) -> Radiograph:
    """Decode a PNG, JPEG, TIFF (8 or 16 bit, gray or color) or DICOM file to a square radiograph of `px`.

    Raises:
        InputError: the bytes are no such image, are damaged or truncated, or hold more than `MAX_PIXELS`.
    """
    patient, notes = Patient(), tuple[str, ...]()
    if is_dicom(data):
        gray, patient, notes = read_dicom(data, MAX_PIXELS)
    else:
        gray = _picture(data)
    if min(gray.size) < 2:
        raise InputError(f"the image has only {gray.width} x {gray.height} pixels")
    levels, inverted = levels_on_square(gray, px)
    return Radiograph(levels, *gray.size, inverted, patient, notes)


def levels_on_square(gray: Image.Image, px: int) -> tuple[np.ndarray, bool]:
    """A gray image as the networks read it, uint8 [px, px], and whether it was a negative and has been inverted.

    Levels are stretched. The longer side fills the square, and the rest is black.
    """
    fine = shrink(gray, max(px, POLARITY_PX))
    low, high = _percentiles(fine)
    levels = _stretched(fine, low, high)
    inverted = is_negative(levels)
    if px < POLARITY_PX:
        levels = _stretched(shrink(gray, px), low, high)
    return on_square(255 - levels if inverted else levels), inverted


def _picture(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                limit = f"the limit is {MAX_PIXELS // 1_000_000} million"
                raise InputError(f"the image has {image.width} x {image.height} pixels; {limit}")
            if (frames := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
                raise InputError(f"the file holds {frames} images; give one radiograph per file")
            if image.mode not in GRAY_OR_RGB and not image.mode.startswith("I"):
                raise InputError(f"the color mode is {image.mode}; store the radiograph as gray or RGB")
            return _gray(image)
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError("not an image in PNG, JPEG, TIFF or DICOM") from error
    except Exception as error:  # a damaged file may make a decoder raise anything
        raise InputError(f"the image is damaged: {error}" if str(error) else "the image cannot be decoded") from error


def _gray(image: Image.Image) -> Image.Image:
    """One channel: mode `L` for images of 8 bits, else `F`."""
    if image.mode.startswith("I") or image.mode == "F":
        gray = image.convert("I").convert("F") if image.mode != "F" else image.copy()
        if not np.isfinite(np.asarray(gray)).all():
            raise InputError("the image has levels that are not numbers")
        return gray
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L")


def gray_from_array(array: np.ndarray) -> Image.Image:
    """Convert an array to a gray image, as a file with these levels would be.

    Args:
        array: [H, W], [H, W, C] or [C, H, W] with 1, 3 (RGB) or 4 channels; of any number type.

    Raises:
        InputError: another shape, more than `MAX_PIXELS`, or levels that are not finite numbers.
    """
    if array.ndim == 3 and array.shape[-1] not in CHANNELS and array.shape[0] in CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in CHANNELS) or min(array.shape[:2]) < 2:
        raise InputError(f"an array of shape {list(array.shape)}; give [H, W], [H, W, C] or [C, H, W]")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        limit = f"the limit is {MAX_PIXELS // 1_000_000} million"
        raise InputError(f"the image has {array.shape[1]} x {array.shape[0]} pixels; {limit}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"the levels are of type {array.dtype}; give integers or floating point numbers")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype == np.uint8:
        return _gray(Image.fromarray(array))
    levels = array.astype(np.float32)
    if not np.isfinite(levels).all():
        raise InputError("the image has levels that are not numbers")
    return Image.fromarray(levels if levels.ndim == 2 else levels[..., :3] @ LUMINANCE)


def _percentiles(gray: Image.Image) -> tuple[float, float]:
    if gray.mode == "F":
        low, high = np.percentile(np.asarray(gray), PERCENTILES)
        return float(low), float(high)
    share = np.cumsum(gray.histogram()) / (gray.width * gray.height) * 100
    low, high = np.searchsorted(share, PERCENTILES)
    return float(low), float(high)


def shrink(gray: Image.Image, px: int) -> Image.Image:
    """Resize the longer side to `px` and keep the aspect. Whole blocks are averaged first, which saves a third of the time."""
    scale = px / max(gray.size)
    size = max(1, round(gray.width * scale)), max(1, round(gray.height * scale))
    return gray.resize(size, Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)


def _stretched(gray: Image.Image, low: float, high: float) -> np.ndarray:
    """Stretch the levels from `low` to `high` over 0 to 255: uint8 [H, W]."""
    scale = 255.0 / max(high - low, 1e-6)
    values = np.arange(256, dtype=np.float32) if gray.mode == "L" else np.asarray(gray, np.float32)
    stretched = ((values - low) * scale).clip(0, 255).astype(np.uint8)
    return np.asarray(gray.point(stretched.tolist())) if gray.mode == "L" else stretched


def is_negative(levels: np.ndarray) -> bool:
    """Whether stretched levels, uint8 [H, W], are those of a negative: dark bones on a bright background.

    Bones and fingers are narrow. They are brighter than their blurred surroundings in a positive and darker in a negative,
    whatever frames and letters do to the mean. So the image minus its blurred copy is skewed to the dark side in a negative;
    the median level has to be bright too. The threshold is cautious: in doubt an image counts as a positive.
    """
    film = Image.fromarray(levels)
    middle = np.searchsorted(np.cumsum(film.histogram()), levels.size / 2)
    small = shrink(film, POLARITY_PX)
    coarse = small.filter(ImageFilter.GaussianBlur(POLARITY_BLUR_PX))
    detail = np.asarray(small, np.float32) - np.asarray(coarse, np.float32)
    rim = min(POLARITY_RIM_PX, (min(detail.shape) - 1) // 2)  # the edges of films are bright or dark
    detail = detail[rim : len(detail) - rim, rim : detail.shape[1] - rim]
    standard = (detail / (detail.std() + 1e-6)).clip(-4, 4)
    return bool(middle > 127 and (standard * standard * standard).mean() < NEGATIVE_SKEWNESS)


def on_square(levels: np.ndarray) -> np.ndarray:
    """Center on the smallest black square: uint8 [H, W] -> uint8 [S, S]."""
    height, width = levels.shape
    side = max(height, width)
    square = np.zeros((side, side), np.uint8)
    left, top = (side - width) // 2, (side - height) // 2
    square[top : top + height, left : left + width] = levels
    return square


def boxes_in_file(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Convert boxes [..., 4] from shares of the square to pixels of the image before padding."""
    left, top, side = padding(width, height)
    return (boxes - np.array([left, top, left, top])) * side


def padding(width: int, height: int) -> tuple[float, float, float]:
    """Left and top margin as shares of the square, and the side of the square in pixels of the file."""
    side = max(width, height)
    return (side - width) / (2 * side), (side - height) / (2 * side), float(side)
