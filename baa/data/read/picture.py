"""PNG, JPEG, TIFF, WebP and BMP files, and arrays, to gray levels."""

import contextlib
import io
import warnings
from collections.abc import Callable

import imagecodecs
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from baa.data.read.codestream import check_size, read_stream
from baa.data.read.radiograph import LUMINANCE, Gray
from baa.data.read.shrink import bands
from baa.data.read.tiff import Page, read_pages
from baa.errors import InputError

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
EXIF_START = b"Exif\0\0"
EXIF_TEXT = "Raw profile type exif"
ORIENTATION = 0x0112
SAMPLE_FORMAT, SIGNED = 339, 2

BMP_START, RUN_LENGTHS, MAX_RUN_BYTES = b"BM", (b"\1\0\0\0", b"\2\0\0\0"), 4 << 20
"""How a bitmap begins, its compressions by run lengths, and their largest size."""

CHANNELS = (1, 3, 4)

GRAY_OR_RGB = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "F"})
"""Pillow modes that are accepted, besides those of 16 or more bits, which begin with I."""

DEEP = {"F": np.float32, "I": np.int32}
"""Number types by Pillow mode; modes such as `I;16` have 16 bits, all others are converted to 8."""

TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda levels: np.rot90(levels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda levels: np.rot90(levels, -1),
    7: lambda levels: np.rot90(levels, 2).T,
    8: np.rot90,
}
"""What shows an image upright, by its EXIF orientation."""

PNG_START, MAX_CHUNKS = b"\x89PNG\r\n\x1a\n", 50_000
"""Programs write chunks of 8 KiB or more."""

THUMBNAIL = 0.5
"""Pages of a TIFF with sides of at most this share of the largest page's are thumbnails."""


def read_picture(file: io.BytesIO, max_pixels: int) -> Gray:
    """Read an image file that is no DICOM file, and close it.

    Raises:
        InputError: it is no such image, is damaged, holds several images or too many pixels.
    """
    data = file.getvalue()
    page = _only_page(read_pages(data)) if data.startswith(TIFF_STARTS) else None
    if (stream := read_stream(data)) is not None:
        check_size(stream, max_pixels)
        if (start := data.find(EXIF_START, 0, 1 << 16)) > 0:
            _check_exif(data[start : start + (1 << 16)])
    _check_runs(data)
    _check_chunks(data)
    del data
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            if page is not None:
                image.seek(page.number)
            elif getattr(image, "is_animated", False) and image.format != "MPO":
                raise InputError(f"the file holds {image.n_frames} images; give one radiograph per file")  # type: ignore[attr-defined]
            if image.width * image.height > max_pixels:
                limit = f"the limit is {max_pixels // 1_000_000} million"
                raise InputError(f"the image has {image.width} x {image.height} pixels; {limit}")
            if image.mode not in GRAY_OR_RGB and not image.mode.startswith("I"):
                raise InputError(f"the color mode is {image.mode}; store the radiograph as gray or RGB")
            return _gray(image, page, file)
    except (InputError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        if page is not None:
            raise InputError("the TIFF has unusual pixels; store it as gray of 8 or 16 bits, black is zero") from None
        raise InputError("not an image in PNG, JPEG, TIFF, WebP, BMP or DICOM") from None
    except Exception as error:  # a damaged file may make a decoder raise anything
        raise InputError(f"the image is damaged: {error}" if str(error) else "the image cannot be decoded") from None


def _only_page(pages: list[Page]) -> Page:
    largest = max(pages, key=lambda page: page.width * page.height)
    if not largest.width or not largest.height:
        raise InputError("the TIFF holds an image without width or height")
    near = [page for page in pages if max(page.width / largest.width, page.height / largest.height) > THUMBNAIL]
    if len(near) > 1:
        raise InputError(f"the file holds {len(near)} images; give one radiograph per file")
    return largest


def _check_exif(data: bytes) -> None:
    try:
        read_pages(data.removeprefix(EXIF_START))
    except InputError as error:
        raise InputError(f"the EXIF data of the image are refused: {error}") from None


def _exif(image: Image.Image) -> bytes:
    """The EXIF data of an image, empty if it has none. Older programs write those of a PNG as text."""
    if data := image.info.get("exif"):
        return bytes(data)
    with contextlib.suppress(ValueError):
        return bytes.fromhex("".join(image.info.get(EXIF_TEXT, "").split("\n")[3:]))
    return b""


def _check_chunks(data: bytes) -> None:
    place, count = len(PNG_START), 0
    while data.startswith(PNG_START) and place + 8 <= len(data) and data[place + 4 : place + 8] != b"IEND":
        place += 12 + int.from_bytes(data[place : place + 4])
        count += 1
        if count > MAX_CHUNKS:
            raise InputError(f"the PNG image has more than {MAX_CHUNKS:,} chunks; store it again")


def _check_runs(data: bytes) -> None:
    """Refuse a long run-length encoded bitmap, which Pillow decodes in Python."""
    if data.startswith(BMP_START) and data[30:34] in RUN_LENGTHS and len(data) > MAX_RUN_BYTES:
        limit = f"the limit is {MAX_RUN_BYTES >> 20}"
        raise InputError(f"the run-length encoded bitmap has {len(data) >> 20} MiB; {limit}; store it as PNG")


def _gray(image: Image.Image, page: Page | None, file: io.BytesIO) -> Gray:
    if image.format != "WEBP":
        image.load()  # turns a TIFF, and takes its orientation away
    if page is None and (exif := _exif(image)):
        _check_exif(exif)
    orientation = image.getexif().get(ORIENTATION, 1)
    if image.format == "WEBP":  # Pillow needs 16 bytes a pixel
        image = Image.fromarray(imagecodecs.webp_decode(file.getvalue()))
    file.close()
    levels = gray_levels(image)
    if isinstance(image, TiffImageFile):  # Pillow takes values of 8 bits for unsigned ones, those of 32 for signed ones
        signed = image.tag_v2.get(SAMPLE_FORMAT) == (SIGNED,)
        if signed and image.mode == "L":
            levels ^= 0x80
        elif not signed and image.mode == "I":
            levels = levels.view(np.uint32)
    if page is not None and page.white_is_zero and image.mode not in ("1", "L"):  # Pillow inverts those itself
        np.subtract(levels.max(), levels, out=levels)
    return Gray(TURNED.get(orientation, np.asarray)(levels), declared=page is not None)


def gray_levels(image: Image.Image) -> np.ndarray:
    """Convert to one channel [H, W]: uint8, or as the image has them if they are deeper.

    Raises:
        InputError: a level is not a number.
    """
    levels = np.empty((image.height, image.width), DEEP.get(image.mode, np.uint16 if image.mode[0] == "I" else np.uint8))
    for rows in bands(levels.shape):
        band = image.crop((0, rows.start, image.width, rows.stop))
        levels[rows] = np.asarray(band if levels.itemsize > 1 else _gray_of_8_bits(band))
        if image.mode == "F" and not np.isfinite(levels[rows]).all():
            raise InputError("the image has levels that are not numbers")
    return levels


def _gray_of_8_bits(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L")


def gray_from_array(array: np.ndarray, max_pixels: int) -> Gray:
    """Convert an array to gray levels, as a file with these levels would be.

    Args:
        array: [H, W], [H, W, C] or [C, H, W] with 1, 3 (RGB) or 4 channels; of any number type.
        max_pixels: the largest accepted image.

    Raises:
        InputError: another shape, too many pixels, or levels that are not finite numbers.

    Example:
        >>> gray = gray_from_array(np.zeros((3, 40, 60), np.uint8), max_pixels=10_000)
        >>> gray.levels.shape, gray.levels.dtype
        ((40, 60), dtype('uint8'))
    """
    if array.ndim == 3 and array.shape[-1] not in CHANNELS and array.shape[0] in CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in CHANNELS) or min(array.shape[:2]) < 2:
        raise InputError(f"an array of shape {list(array.shape)}; give [H, W], [H, W, C] or [C, H, W]")
    if array.shape[0] * array.shape[1] > max_pixels:
        limit = f"the limit is {max_pixels // 1_000_000} million"
        raise InputError(f"the image has {array.shape[1]} x {array.shape[0]} pixels; {limit}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"the levels are of type {array.dtype}; give integers or floating point numbers")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    if array.dtype == np.uint8:
        return Gray(gray_levels(Image.fromarray(array)))
    levels = array.astype(np.float32)
    if not np.isfinite(levels).all():
        raise InputError("the image has levels that are not numbers")
    return Gray(levels if levels.ndim == 2 else levels[..., :3] @ LUMINANCE)
