"""Damaged and hostile films without end: files of every format with other bytes, DICOM headers with other values."""

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
from dicom_file import dicom
from mutated import originals
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

FIRST_BYTES = 600

NUMBERS = [0, 1, 2, 3, 7, 8, 12, 16, 17, 32, 200, 255, 256, 4096, 32767, 32768, 65535]
TEXTS = [
    "",
    " ",
    "0",
    "1",
    "-1",
    "1.5",
    "1,5",
    "nan",
    "inf",
    "1e30",
    "1e-30",
    "\\",
    "1\\2",
    "2\\1\\3",
    "MONOCHROME1",
    "RGB",
    "YBR_FULL",
]
TEXTS += [
    "INVERSE",
    "IDENTITY",
    "SIGMOID",
    "LINEAR_EXACT",
    "000Y",
    "999Y",
    "012M",
    "M",
    "F",
    "CR",
    "MR",
    "CHEST",
    "HAND",
    "a" * 300,
]
TEXTS += [
    "monochrome2",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.5",
    "99999999999999999",
]
ELEMENTS = {
    (0x0008, 0x0005): "CS",
    (0x0008, 0x0060): "CS",
    (0x0010, 0x0040): "CS",
    (0x0010, 0x1010): "AS",
    (0x0018, 0x0015): "CS",
    (0x0018, 0x1164): "DS",
    (0x0028, 0x0002): "US",
    (0x0028, 0x0004): "CS",
    (0x0028, 0x0006): "US",
    (0x0028, 0x0008): "IS",
    (0x0028, 0x0010): "US",
    (0x0028, 0x0011): "US",
    (0x0028, 0x0030): "DS",
    (0x0028, 0x0034): "IS",
    (0x0028, 0x0100): "US",
    (0x0028, 0x0101): "US",
    (0x0028, 0x0102): "US",
    (0x0028, 0x0103): "US",
    (0x0028, 0x0120): "US",
    (0x0028, 0x0121): "US",
    (0x0028, 0x1050): "DS",
    (0x0028, 0x1051): "DS",
    (0x0028, 0x1052): "DS",
    (0x0028, 0x1053): "DS",
    (0x0028, 0x1056): "CS",
    (0x2050, 0x0020): "CS",
}
"""Elements that change how a film is read, and their VR."""


def peak_bytes(process):
    """The most memory that a process has had until now, by its number."""
    return 1024 * int(Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0])


def films(pixels):
    """The same radiograph in each format and compression."""
    wide = pixels.astype(np.uint16) * 16
    streams = {
        "jpeg": (pixels, JPEGBaseline8Bit, imagecodecs.jpeg8_encode(pixels)),
        "jpeg12": (wide, JPEGExtended12Bit, imagecodecs.jpeg8_encode(wide, bitspersample=12)),
        "lossless": (wide, JPEGLosslessSV1, imagecodecs.jpeg8_encode(wide, lossless=True, bitspersample=12)),
        "jpegls": (wide, JPEGLSLossless, imagecodecs.jpegls_encode(wide)),
        "jpeg2000": (wide, JPEG2000Lossless, imagecodecs.jpeg2k_encode(wide, level=0, codecformat="j2k", bitspersample=12)),
        "jp2": (wide, JPEG2000, imagecodecs.jpeg2k_encode(wide, level=0, codecformat="jp2", bitspersample=12)),
        "rle": (wide, RLELossless, run_lengths(wide)),
    }
    packed = {
        f"{name}.dcm": dicom(stored, syntax, PixelData=encapsulate([data])) for name, (stored, syntax, data) in streams.items()
    }
    packed["deflated.dcm"] = dicom(wide, DeflatedExplicitVRLittleEndian)
    return originals(pixels) | packed | {"film.webp": _saved(pixels, "WEBP"), "film.bmp": _saved(pixels, "BMP")}


def run_lengths(levels):
    """Encode gray levels as DICOM's RLE does."""
    rows, columns = levels.shape
    bits = 8 * levels.itemsize
    return RLELosslessEncoder.encode(
        levels.tobytes(),
        rows=rows,
        columns=columns,
        samples_per_pixel=1,
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=0,
        number_of_frames=1,
        index=0,
        photometric_interpretation="MONOCHROME2",
    )


def _saved(pixels, kind):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def fuzzed(pixels, count, seed=0):
    """Yield (name, bytes) of films of which bytes were changed, cut, put in, copied, or set to 0 or 255."""
    rng = np.random.default_rng(seed)
    whole = list(films(pixels).items())
    for i in range(count):
        name, data = whole[i % len(whole)]
        yield f"{i}_{name}", with_other_bytes(data, rng)


def with_other_bytes(data, rng):
    """Change one to three places of a file, most of them near its beginning."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        near = rng.random() < 0.7
        place = int(rng.integers(0, min(len(changed), FIRST_BYTES) if near else len(changed)))
        size = int(2 ** rng.uniform(0, 6))
        match int(rng.integers(6)):
            case 0:
                changed[place] ^= 1 << int(rng.integers(8))
            case 1:
                changed[place : place + size] = rng.bytes(size)
            case 2:
                changed[place : place + size] = (b"\0" if rng.random() < 0.5 else b"\xff") * size
            case 3:
                changed[place:place] = rng.bytes(size)
            case 4:
                changed[place:place] = changed[place : place + 50 * size]
            case 5:
                del changed[place : place + (size if near else len(changed))]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def header_fuzzed(pixels, count, seed=0):
    """Yield (name, bytes) of DICOM files of which one to three elements have another value, or another type of value."""
    rng = np.random.default_rng(seed)
    whole = [(name, data) for name, data in films(pixels).items() if name.endswith(".dcm")]
    for i in range(count):
        name, data = whole[i % len(whole)]
        for _ in range(int(rng.integers(1, 4))):
            tag = list(ELEMENTS)[int(rng.integers(len(ELEMENTS)))]
            data = _with_element(data, tag, *_value(ELEMENTS[tag], rng))
        yield f"{i}_{name}", data


def _value(vr, rng):
    if (vr == "US") != (rng.random() < 0.1):  # one in ten has another VR
        return "US", struct.pack("<H", NUMBERS[int(rng.integers(len(NUMBERS)))])
    text = TEXTS[int(rng.integers(len(TEXTS)))].encode()
    return (vr if vr != "US" else "LO"), text + b" " * (len(text) % 2)


def _with_element(data, tag, vr, value):
    """Replace or insert an element of an explicit little-endian file, before the first one with a larger tag."""
    encoded = struct.pack("<HH2sH", *tag, vr.encode(), len(value)) + value
    place = 132
    while place + 8 <= len(data):
        there = struct.unpack_from("<HH", data, place)
        long = data[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN", b"OF", b"OD", b"UT")
        size = 12 + struct.unpack_from("<I", data, place + 8)[0] if long else 8 + struct.unpack_from("<H", data, place + 6)[0]
        if there == tag:
            return data[:place] + encoded + data[place + size :]
        if there > tag:
            return data[:place] + encoded + data[place:]
        place += size
    return data
