"""PNG, JPEG, TIFF, WebP and BMP files, and arrays, to gray levels."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from baa.data.read.codestream import check_size, read_stream
from baa.data.read.radiograph import LUMINANCE, Gray
from baa.data.read.tiff import Page, read_pages
from baa.errors import InputError

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
EXIF_START = b"Exif\0\0"
ORIENTATION = 0x0112

CHANNELS = (1, 3, 4)

GRAY_OR_RGB = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "F"})
"""Pillow modes that are accepted, besides those of 16 or more bits, which begin with I."""

THUMBNAIL = 0.5
"""Pages of a TIFF with sides of at most this share of the largest page's are thumbnails."""


def read_picture(data: bytes, max_pixels: int) -> Gray:
    """Read an image file that is no DICOM file.

    Raises:
        InputError: it is no such image, is damaged, holds several images or too many pixels.
    """
    page = _only_page(read_pages(data)) if data.startswith(TIFF_STARTS) else None
    if (stream := read_stream(data)) is not None:
        check_size(stream, max_pixels)
        _check_exif(data)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if page is not None:
                image.seek(page.number)
            elif getattr(image, "is_animated", False) and image.format != "MPO":
                raise InputError(f"the file holds {image.n_frames} images; give one radiograph per file")  # type: ignore[attr-defined]
            if image.width * image.height > max_pixels:
                limit = f"the limit is {max_pixels // 1_000_000} million"
                raise InputError(f"the image has {image.width} x {image.height} pixels; {limit}")
            if image.mode not in GRAY_OR_RGB and not image.mode.startswith("I"):
                raise InputError(f"the color mode is {image.mode}; store the radiograph as gray or RGB")
            return _gray(image, page)
    except (InputError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
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
    if (start := data.find(EXIF_START, 0, 1 << 16)) > 0:
        try:
            read_pages(data[start + len(EXIF_START) :][: 1 << 16])
        except InputError as error:
            raise InputError(f"the EXIF data of the image are refused: {error}") from None


def _gray(image: Image.Image, page: Page | None) -> Gray:
    image.load()  # turns a TIFF, and takes its orientation away
    orientation = image.getexif().get(ORIENTATION, 1)
    levels = gray_levels(image)
    if page is not None and page.white_is_zero and image.mode not in ("1", "L"):  # Pillow inverts those itself
        values = np.array(levels, np.float32)
        levels = Image.fromarray(np.subtract(values.max(), values, out=values))
    if orientation != 1:
        levels.getexif()[ORIENTATION] = orientation
        levels = ImageOps.exif_transpose(levels)
    return Gray(levels, declared=page is not None)


def gray_levels(image: Image.Image) -> Image.Image:
    """Convert to one channel: mode `L` for images of 8 bits, else `F`."""
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image, np.float32)
        if not np.isfinite(levels).all():
            raise InputError("the image has levels that are not numbers")
        return Image.fromarray(levels)
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
    return Gray(Image.fromarray(levels if levels.ndim == 2 else levels[..., :3] @ LUMINANCE))
