"""The modality and VOI transformations of a DICOM image (PS3.3, C.11.1 and C.11.2)."""

from itertools import islice

import numpy as np
from pydicom.dataset import Dataset

from baa.data.read.header import number, numbers, text, texts
from baa.data.read.shrink import bands
from baa.errors import InputError

LEFT = 0.05
"""The smallest share of pixels inside a usable window. A window for other levels would leave black or white."""

CHECKED_ROWS = 500
FEWEST_ENTRIES = 2

MAX_TRIED = 16
"""Alternative windows or LUTs of a file that are tried."""


def apply_modality(dataset: Dataset, stored: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Apply the modality LUT, or slope and intercept: float32 [H, W], and notes.

    Raises:
        InputError: an element is not a number, or the result is not finite.

    Example:
        >>> dataset = Dataset()
        >>> dataset.RescaleSlope, dataset.RescaleIntercept = 2, -10
        >>> values, _ = apply_modality(dataset, np.array([[0, 5, 10]], np.uint16))
        >>> values.tolist()
        [[-10.0, 0.0, 10.0]]
    """
    for item in dataset.get("ModalityLUTSequence") or ():
        return _look_up(item, stored, "ModalityLUTSequence"), ()
    values, notes = stored.astype(np.float32), tuple[str, ...]()
    slope, intercept = number(dataset, "RescaleSlope", 1.0), number(dataset, "RescaleIntercept", 0.0)
    assert slope is not None
    assert intercept is not None
    if slope == 0:
        slope, notes = 1.0, ("RescaleSlope is 0 in the header and was ignored",)
    values *= slope
    values += intercept
    if not np.isfinite((values.min(), values.max())).all():
        raise InputError("the DICOM file holds values that are not finite numbers, before or after its rescale")
    return values, notes


def apply_window(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    """Apply the first VOI LUT or window that leaves something of the image; without one return the values.

    Args:
        dataset: the header.
        values: float32 [H, W]. They may be overwritten.

    Returns:
        float32 [H, W].

    Example:
        >>> dataset = Dataset()
        >>> dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 20, 40, "LINEAR_EXACT"
        >>> apply_window(dataset, np.array([[0, 10, 20, 100]], np.float32)).tolist()
        [[0.0, 0.25, 0.5, 1.0]]
    """
    some = values[:: max(1, len(values) // CHECKED_ROWS)]
    for item in islice(dataset.get("VOILUTSequence") or (), MAX_TRIED):
        if np.ptp(_look_up(item, some, "VOILUTSequence")) > 0:
            return _look_up(item, values, "VOILUTSequence")
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    for center, width in islice(zip(centers, widths, strict=False), MAX_TRIED):
        if width >= 1 or (width > 0 and function != "LINEAR"):
            inside = np.abs(some - center) <= width / 2
            if inside.mean() >= LEFT and np.ptp(some[inside]) > 0:
                return _windowed(values, center, width, function)
    return values


def _windowed(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Levels from 0 to 1, in place. An increasing function, whatever the sign of the rescale slope."""
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, 0.5)
    values -= center
    values /= width
    if function == "SIGMOID":
        values *= -4
        np.exp(values.clip(-80, 80, out=values), out=values)
        values += 1
        return np.reciprocal(values, out=values)
    values += 0.5
    return values.clip(0, 1, out=values)


def _look_up(item: Dataset, values: np.ndarray, name: str) -> np.ndarray:
    """Apply a LUT. Entries beyond those that are there repeat the last one."""
    descriptor = numbers(item, "LUTDescriptor")
    entries = _entries(item, descriptor) if len(descriptor) == 3 else np.zeros(0)
    if len(entries) < FEWEST_ENTRIES:
        raise InputError(f"the DICOM element {name} holds no usable table; remove it")
    first = descriptor[1] - (1 << 16 if descriptor[1] >= 1 << 15 and values.min() < 0 else 0)  # a signed number as unsigned
    levels = np.empty(values.shape, np.float32)
    for rows in bands(values.shape):
        levels[rows] = entries[np.clip(values[rows] - first, 0, len(entries) - 1).astype(np.int32)]
    return levels


def _entries(item: Dataset, descriptor: list[float]) -> np.ndarray:
    count, bits = int(descriptor[0]) or 1 << 16, int(descriptor[2])
    stored = item.get("LUTData")
    if isinstance(stored, bytes):
        packed = len(stored) < 2 * count and bits <= 8
        entries = np.frombuffer(stored, np.uint8 if packed else np.uint16, len(stored) // (1 if packed else 2))
    else:
        entries = np.array([float(value) for value in texts(item, "LUTData")]).astype(np.int64) & 0xFFFF
    if 0 < bits <= 16:
        entries = entries.astype(np.int64) & ((1 << bits) - 1)
    return entries[:count].astype(np.float32)
