"""Damaged and malicious files: flipped bits, truncation, false headers, images that decompress to gigabytes."""

import io
import re
import struct
import zlib

import numpy as np
from dicom_file import dicom
from PIL import Image

from baa.data.sources.phantom import phantom_cases

FLIPS, CUTS, LIES = 30, 20, 12


def mutated(pixels, seed=0):
    """Return the bytes of 300 or more files by name.

    Args:
        pixels: the radiograph that the files are made of, uint8 [H, W].
        seed: of everything that is drawn.
    """
    rng = np.random.default_rng(seed)
    whole = originals(pixels)
    files = {}
    for name, data in whole.items():
        stem, suffix = name.split(".")
        for i in range(FLIPS):
            files[f"{stem}_flipped_{i}.{suffix}"] = _flipped(data, 1 + 3 * i, rng)
        for i, kept in enumerate(np.linspace(0, len(data) - 1, CUTS).astype(int)):
            files[f"{stem}_cut_{i}.{suffix}"] = data[:kept]
    for i in range(LIES):
        width, height = (int(side) for side in rng.choice([0, 1, 3, 5_000, 30_000, 65_535], 2))
        files[f"lie_{i}.png"] = _png_of_size(whole["gray.png"], width, height)
        files[f"lie_{i}.jpg"] = _jpeg_of_size(whole["gray.jpg"], width, height)
        files[f"lie_{i}.dcm"] = dicom(pixels, Rows=height, Columns=width)
    return files | oddities(pixels)


def write_mutated(folder):
    """Write the files made of a phantom to a folder."""
    [case] = phantom_cases(1, seed=3)
    for name, data in mutated(case.image.load(384).pixels).items():
        (folder / name).write_bytes(data)
    return folder


def originals(pixels):
    """The same radiograph in five kinds of file."""
    image, deep = Image.fromarray(pixels), Image.fromarray(pixels.astype(np.uint16) * 257)
    return {
        "gray.png": _saved(image, "PNG"),
        "deep.png": _saved(deep, "PNG"),
        "gray.jpg": _saved(image, "JPEG"),
        "deep.tif": _saved(deep, "TIFF", compression="tiff_lzw"),
        "film.dcm": dicom(pixels),
    }


def oddities(pixels):
    """One of each: no image, too small, too large, other colors, several images."""
    image, other = Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())
    lines = 30_000
    return {
        "empty.png": b"",
        "text.png": b"<html>not found</html>",
        "random.dcm": np.random.default_rng(1).bytes(5_000),
        "dot.png": _saved(image.resize((1, 1)), "PNG"),
        "thread.png": _saved(image.resize((1, 5_000)), "PNG"),
        "enormous.png": _blank_png(lines, lines),
        "bomb.png": _blank_png(lines, lines, rows=2),
        "text_bomb.png": _with_chunk(_saved(image, "PNG"), b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000))),
        "profile_bomb.png": _with_chunk(_saved(image, "PNG"), b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000))),
        "cmyk.jpg": _saved(image.convert("RGB").convert("CMYK"), "JPEG"),
        "cmyk.tif": _saved(image.convert("RGB").convert("CMYK"), "TIFF"),
        "animated.png": _saved(image, "PNG", save_all=True, append_images=[other]),
        "pages.tif": _saved(image, "TIFF", save_all=True, append_images=[other]),
        "moving.jpg": _saved(image, "GIF", save_all=True, append_images=[other]),
        "bits.png": _saved(image.convert("1"), "PNG"),
        "palette.png": _saved(image.convert("P"), "PNG"),
        "not_numbers.tif": _saved(Image.fromarray(np.full(pixels.shape, np.nan, np.float32)), "TIFF"),
        "frames.dcm": dicom(pixels, NumberOfFrames=40_000),
        "deep.dcm": dicom(pixels, BitsAllocated=32, BitsStored=32, HighBit=31),
        "no_pixels.dcm": dicom(pixels, PixelData=None),
    }


def _saved(image, kind, **how):
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


def _flipped(data, count, rng):
    changed = np.frombuffer(data, np.uint8).copy()
    changed[rng.integers(0, len(changed), count)] ^= (1 << rng.integers(0, 8, count)).astype(np.uint8)
    return changed.tobytes()


def _chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _with_chunk(png, name, content):
    after_header = 33
    return png[:after_header] + _chunk(name, content) + png[after_header:]


def _png_of_size(png, width, height):
    return png[:8] + _chunk(b"IHDR", struct.pack(">II", width, height) + png[24:29]) + png[33:]


def _jpeg_of_size(jpeg, width, height):
    frame = re.search(rb"\xff\xc0..\x08", jpeg, re.DOTALL)
    return jpeg[: frame.end()] + struct.pack(">HH", height, width) + jpeg[frame.end() + 4 :]


def _blank_png(width, height, rows=None):
    """A black image; with `rows`, of fewer rows than its header states."""
    packer = zlib.compressobj(9)
    line = bytes(width + 1)
    content = b"".join(packer.compress(line) for _ in range(rows or height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", content) + _chunk(b"IEND", b"")
