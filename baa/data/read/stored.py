"""The stored values of a DICOM image, whatever its header says about their bits.

Scanners and converters write wrong numbers of bits, signs and byte orders. A radiograph is smooth, so its values themselves
show how they are meant: see `_carry`.
"""

from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import RLELossless

from baa.data.read.codestream import check_size, decode_rle, decode_stream, read_stream
from baa.data.read.header import Layout
from baa.errors import InputError

ITEM = b"\xfe\xff\x00\xe0"
"""The tag with which compressed pixels begin."""

FLOATS = {"FloatPixelData": np.float32, "DoubleFloatPixelData": np.float64}

SOME_ROWS = 500
"""About this many rows decide how the values are meant."""

SWAPPED = 0.5
"""Swapped bytes make a radiograph rougher than this share tells: its low bytes become the high ones."""

NOISE, ROUGHER = 0.12, 2.0
"""Roughness of films: at most 0.1, that of noise: 0.34."""

CARRIED, FEWEST_CHANGES, SMOOTHER = 0.15, 20, 0.8


class Stored(NamedTuple):
    """Values [H, W] or [H, W, C], and notes on what the header says otherwise."""

    values: np.ndarray
    notes: tuple[str, ...] = ()


def read_stored(dataset: Dataset, layout: Layout, max_pixels: int) -> Stored:
    """Read the stored values.

    Args:
        dataset: the file.
        layout: how its pixels are stored, from `baa.data.read.header.read_layout`.
        max_pixels: the largest accepted image.

    Raises:
        InputError: there are none, or they are truncated, damaged, of another size than in the header, or too many.

    Example:
        >>> from baa.data.read.header import read_layout
        >>> dataset = Dataset()
        >>> dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.PixelData = 2, 3, 8, bytes([0, 1, 2, 3, 4, 5])
        >>> read_stored(dataset, read_layout(dataset, 100), 100).values.tolist()
        [[0, 1, 2], [3, 4, 5]]
    """
    for name, dtype in FLOATS.items():
        if name in dataset:
            return Stored(_native(dataset[name].value, layout, np.dtype(dtype)))
    data = _pixel_data(dataset)
    if data.startswith(ITEM):
        return _compressed(data, layout, max_pixels)
    return _plausible(_integers(data, layout), layout)


def _pixel_data(dataset: Dataset) -> bytes:
    data = dataset.get("PixelData")
    if not isinstance(data, bytes) or not data:
        raise InputError("the DICOM file holds no image")
    return data


def _integers(data: bytes, layout: Layout) -> np.ndarray:
    """Uncompressed values, unsigned. BitsAllocated that contradicts the number of bytes is corrected."""
    count = layout.rows * layout.columns * layout.samples
    if layout.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=count)
        return bits.reshape(layout.rows, layout.columns)
    fits = [bits for bits in (8, 16, 32) if len(data) in (count * bits // 8, count * bits // 8 + 1)]
    allocated = layout.allocated if layout.allocated in (8, 16, 32) else None
    if allocated is None or (allocated not in fits and fits):
        allocated = fits[0] if fits else 16
    return _native(data, layout, np.dtype(f"{'<' if layout.little_endian else '>'}u{allocated // 8}"))


def _native(data: bytes, layout: Layout, dtype: np.dtype) -> np.ndarray:
    count = layout.rows * layout.columns * layout.samples
    row = layout.columns * layout.samples * dtype.itemsize
    needed = count * dtype.itemsize
    if not needed <= len(data) < needed + max(row, 2):
        raise InputError(
            f"PixelData has {len(data)} bytes; Rows, Columns, SamplesPerPixel and BitsAllocated need {needed}: "
            "the file is truncated or its header is wrong"
        )
    values = np.frombuffer(data, dtype, count)
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if layout.planar:
        return values.reshape(layout.samples, layout.rows, layout.columns).transpose(1, 2, 0)
    return values.reshape(layout.rows, layout.columns, layout.samples)


def _compressed(data: bytes, layout: Layout, max_pixels: int) -> Stored:
    try:
        frame = get_frame(data, 0, number_of_frames=1)
    except Exception:
        raise InputError("PixelData is truncated or damaged: its fragments do not fit their lengths") from None
    stream = read_stream(frame)
    shape = (layout.rows, layout.columns, layout.samples) if layout.samples > 1 else (layout.rows, layout.columns)
    if stream is None:
        if layout.syntax is not None and layout.syntax.is_compressed and layout.syntax != RLELossless:
            raise InputError(f"PixelData does not begin as an image in {layout.syntax.name} does; convert the file")
        return _plausible(decode_rle(frame, shape, layout.allocated or 16), layout)
    check_size(stream, max_pixels)
    values = decode_stream(frame, stream, rgb=layout.photometric == "RGB")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    notes = []
    if values.shape[:2] != (layout.rows, layout.columns):
        said, there = f"{layout.columns} x {layout.rows}", f"{values.shape[1]} x {values.shape[0]}"
        notes.append(f"the header has {said} pixels, the compressed image has {there}")
    if values.ndim != 2 and values.ndim != 3:
        raise InputError(f"the {stream.kind} image has {values.ndim} dimensions")
    if stream.bits > 8 or not layout.signed:
        layout = layout._replace(stored=stream.bits, high=stream.bits - 1)
    stored = _plausible(values, layout)
    return stored._replace(notes=(*notes, *stored.notes))


def _plausible(raw: np.ndarray, layout: Layout) -> Stored:
    """Read gray integers as the header declares, unless the values contradict it."""
    if raw.ndim != 2 or raw.dtype.kind != "u" or raw.dtype.itemsize > 2:
        return Stored(raw if raw.dtype.kind != "u" or not layout.signed else raw.astype(f"i{raw.dtype.itemsize}"))
    bits, notes = 8 * raw.dtype.itemsize, list[str]()
    some = raw[:: max(1, len(raw) // SOME_ROWS)]
    if bits == 16 and _roughness(some.byteswap()) < SWAPPED * _roughness(some):
        raw, some, notes = raw.byteswap(), some.byteswap(), ["the bytes of the pixels are swapped"]
    stored = min(layout.stored or bits, bits)
    shift = 0 if layout.high is None else min(max(layout.high + 1 - stored, 0), bits - stored)
    if shift and not (some & ((1 << shift) - 1)).any():  # bits below those in use are empty, or HighBit is wrong
        raw, some = raw >> shift, some >> shift
    if stored < bits and not _sign_extended(raw, stored) and _continue_above(some, stored):
        stored, notes = bits, [*notes, "the values use more bits than BitsStored in the header"]
    signed, carry = layout.signed, _carry((some >> (stored - 1)) & 1, some, stored - 1)
    if (stored > 8 or signed) and abs(carry) > CARRIED and signed != (carry > 0):
        meant = "signed" if carry > 0 else "unsigned"
        if _is_smoother(some, bits - stored, carry > 0):
            signed = carry > 0
            notes.append(f"the values are {meant}, unlike PixelRepresentation in the header")
        else:
            notes.append(f"the values may be {meant}, unlike PixelRepresentation in the header: compare with a viewer")
    unused = bits - stored
    if unused:
        raw = raw << unused
    values = raw.view(f"i{raw.dtype.itemsize}") if signed else raw
    if unused:
        np.right_shift(values, unused, out=values)
    return Stored(values, tuple(notes))


def _sign_extended(raw: np.ndarray, stored: int) -> bool:
    """Whether the bits above those in use repeat the sign."""
    values = raw.view(raw.dtype.str.replace("u", "i"))
    return bool(values.min() >= -(1 << (stored - 1)) and values.max() < 1 << (stored - 1))


def _continue_above(some: np.ndarray, stored: int) -> bool:
    """Whether the values go on in the bits above those that the header declares.

    If many bits are missing, what is left is noise or nothing. An overlay in unused bits leaves a smooth image.
    """
    below = some & ((1 << stored) - 1)
    if np.ptp(below) == 0 or _carry(some >> stored, some, stored) < -CARRIED:
        return True
    return (rough := _roughness(below)) > NOISE and rough > ROUGHER * _roughness(some)


def _carry(above: np.ndarray, raw: np.ndarray, bit: int) -> float:
    """How the bits below `bit` change where those above change by one, between neighbors, as a share of their range.

    In a smooth image of unsigned numbers about -1: like an odometer, the lower bits fall to 0 where the higher ones count up.
    In one of signed numbers about 1: they jump where the sign changes from 0 to 1. About 0: the bits above are independent of
    those below, such as an overlay, or never change.
    """
    changes: np.ndarray = np.diff(above.astype(np.int32), axis=1)
    below: np.ndarray = np.diff((raw & ((1 << bit) - 1)).astype(np.int32), axis=1)
    by_one = np.abs(changes) == 1
    return float((below * changes)[by_one].mean() / (1 << bit)) if by_one.sum() >= FEWEST_CHANGES else 0.0


def _is_smoother(raw: np.ndarray, unused: int, signed: bool) -> bool:
    """Whether neighbors differ clearly less as signed numbers, or as unsigned ones, than the other way round."""
    unsigned = raw << unused
    steps = [
        np.abs(np.diff(values.astype(np.float32), axis=1)).mean()
        for values in (unsigned, unsigned.view(f"i{raw.dtype.itemsize}"))
    ]
    return bool(steps[signed] < SMOOTHER * steps[not signed])


def _roughness(values: np.ndarray) -> float:
    """The mean step between neighbors, as a share of the range of most values."""
    rows = values.astype(np.float32)
    low, high = np.percentile(rows, (1, 99))
    return float(np.abs(np.diff(rows, axis=1)).mean() / max(high - low, 1))
