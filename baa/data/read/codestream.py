"""Compressed images: their own header, and their decoding.

The checks cost nothing and run before anything is allocated. imagecodecs reads every compression of the standard and raises
where a stream is damaged.
"""

import math
import struct
from typing import NamedTuple

import imagecodecs
import numpy as np

from baa.errors import InputError

JPEG, JPEG_LS, JPEG_2000 = "JPEG", "JPEG-LS", "JPEG 2000"

SOI, J2K_START, JP2_START = b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  "
SOF_JPEG, SOF_JPEG_LS, SOS = (0xC0, 0xC1, 0xC2, 0xC3), 0xF7, 0xDA
BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length."""

END = b"\xff\xd9"
STARTS = {JPEG: b"\xff\xda", JPEG_LS: b"\xff\xda", JPEG_2000: b"\xff\x93"}
"""Markers of the end, and of the last part with pixels. Decoders fill up what is missing between, and say nothing."""

MAX_SCANS = 100
"""Progressive encoders write about ten."""

MAX_SEGMENTS = 2000
"""Application data, such as a color profile or a thumbnail, come in segments of 64 KiB."""

MAX_FILL_BYTES = 1 << 16


class Stream(NamedTuple):
    """The header of a compressed image: its kind, size, samples per pixel and bits per sample."""

    kind: str
    width: int
    height: int
    samples: int
    bits: int


def read_stream(data: bytes) -> Stream | None:
    """Read the header of a compressed image; None if the bytes do not begin as one.

    Raises:
        InputError: the header is damaged, or its parts are too many.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("L", (40, 30)).save(file, "JPEG")
        >>> read_stream(file.getvalue())
        Stream(kind='JPEG', width=40, height=30, samples=1, bits=8)
    """
    if data.startswith(SOI):
        return _jpeg(data)
    if data.startswith(JP2_START) and (start := data.find(J2K_START)) > 0:
        return _jpeg_2000(data, start)
    return _jpeg_2000(data, 0) if data.startswith(J2K_START) else None


def _jpeg(data: bytes) -> Stream:
    if (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise InputError(f"the JPEG image has {scans} scans; the limit is {MAX_SCANS}")
    place, found, filled = 2, None, 0
    for _ in range(MAX_SEGMENTS):
        start = place
        while data[place : place + 2] == b"\xff\xff" and filled + place - start <= MAX_FILL_BYTES:
            place += 1
        filled += place - start
        if filled > MAX_FILL_BYTES:
            raise InputError("the JPEG image is padded with more bytes than any encoder writes")
        if data[place : place + 1] != b"\xff" or len(data) < place + 4:
            break
        marker = data[place + 1]
        if marker in SOF_JPEG or marker == SOF_JPEG_LS:
            bits, height, width, samples = struct.unpack(">BHHB", data[place + 4 : place + 10])
            found = Stream(JPEG_LS if marker == SOF_JPEG_LS else JPEG, width, height, samples, bits)
        if marker == SOS and found is not None:
            return found
        if marker == 0:
            break
        place += 2 if marker in BARE else 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
    raise InputError("the JPEG image is truncated or damaged before its pixels")


def _jpeg_2000(data: bytes, start: int) -> Stream:
    try:
        x1, y1, x0, y0 = struct.unpack(">IIII", data[start + 8 : start + 24])
        (samples,) = struct.unpack(">H", data[start + 40 : start + 42])
        return Stream(JPEG_2000, x1 - x0, y1 - y0, samples, (data[start + 42] & 0x7F) + 1)
    except (struct.error, IndexError):
        raise InputError("the JPEG 2000 image is truncated or damaged before its pixels") from None


def check_size(stream: Stream, max_pixels: int) -> None:
    """Check the size of a compressed image.

    Raises:
        InputError: the image is empty or too large.
    """
    if stream.width < 1 or stream.height < 1 or stream.samples < 1 or stream.samples > 4:
        raise InputError(f"the {stream.kind} image has {stream.width} x {stream.height} pixels of {stream.samples} samples")
    if stream.width * stream.height > max_pixels:
        limit = f"the limit is {max_pixels // 1_000_000} million"
        raise InputError(f"the {stream.kind} image has {stream.width} x {stream.height} pixels; {limit}")


def decode_stream(data: bytes, stream: Stream, *, rgb: bool) -> np.ndarray:
    """Decode a compressed image: [H, W] or [H, W, C].

    Args:
        data: the compressed image.
        stream: its header.
        rgb: colors are stored as RGB, whatever a JPEG image without a marker of its own suggests.

    Raises:
        InputError: it is damaged.
    """
    if data.rfind(END) < data.rfind(STARTS[stream.kind]):
        raise InputError(f"the {stream.kind} image is truncated: it has no end")
    try:
        if stream.kind == JPEG_LS:
            return imagecodecs.jpegls_decode(data)
        if stream.kind == JPEG_2000:
            return imagecodecs.jpeg2k_decode(data)
        colors = "RGB" if rgb and stream.samples == 3 else None
        return imagecodecs.jpeg8_decode(data, colorspace=colors, outcolorspace=colors)
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(f"the {stream.kind} image is truncated or damaged: {_first_line(error)}") from None


def decode_rle(data: bytes, shape: tuple[int, ...], allocated: int) -> np.ndarray:
    """Decode a run-length encoded image of a known shape, [H, W] or [H, W, C].

    Raises:
        InputError: it is damaged, or unpacks to another size.
    """
    segments = int.from_bytes(data[:4], "little")
    samples = shape[2] if len(shape) == 3 else 1
    if segments != samples * allocated // 8:
        raise InputError(
            f"the RLE image has {segments} segments; BitsAllocated and SamplesPerPixel need {samples * allocated // 8}"
        )
    dtype, size = np.dtype(f"<u{allocated // 8}"), math.prod(shape)
    try:
        packed = np.frombuffer(imagecodecs.dicomrle_decode(data, dtype, out=size * dtype.itemsize), dtype, size)
    except MemoryError:
        raise
    except Exception as error:
        raise InputError(f"the RLE image is truncated or damaged: {_first_line(error)}") from None
    return packed.reshape(shape[2], *shape[:2]).transpose(1, 2, 0) if samples > 1 else packed.reshape(shape)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
