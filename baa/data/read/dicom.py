"""A DICOM file to gray levels, bones bright, and the patient's sex and age. Nothing else of the header is kept.

The order is the standard's (PS3.3, C.11): modality LUT or rescale, VOI LUT or window, then the photometric interpretation.
"""

import io
import warnings

import numpy as np
from pydicom.dataset import Dataset

from baa.data.read.header import Layout, number, numbers, parse, read_layout, text, texts
from baa.data.read.luts import apply_modality, apply_window
from baa.data.read.polarity import is_negative
from baa.data.read.radiograph import LUMINANCE, Gray
from baa.data.read.shrink import bands, resized_width
from baa.data.read.stored import read_stored
from baa.errors import InputError
from baa.patient import MAX_CHRONOLOGICAL_MONTHS, MONTHS_PER, Patient, Sex

RADIOGRAPHS = frozenset({"CR", "DX", "RG", "OT", ""})
"""Modalities of projection radiography. Secondary captures are often OT."""

HANDS = ("HAND", "WRIST", "FINGER", "CARP", "THUMB", "EXTREM", "UPPER", "UP_EXM", "ARM")
"""The body part of a hand radiograph contains one of these."""

AGE_UNITS = {"Y": "years", "M": "months", "W": "weeks", "D": "days"}
SEXES = {"M": Sex.MALE, "F": Sex.FEMALE}
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
SQUARE = 0.01
"""Pixels whose sides differ by less than this share count as square."""

WIDEST_ASPECT = 4.0
"""Pixels are not more than this times as long as wide; a header that says so is wrong."""

SHAPES = {"IDENTITY": "MONOCHROME2", "INVERSE": "MONOCHROME1"}
"""Which photometric interpretation goes with a presentation LUT shape."""


def read_dicom(file: io.BytesIO, max_pixels: int) -> Gray:
    """Read a DICOM file of one radiograph.

    Args:
        file: it is closed once it is parsed.
        max_pixels: the largest accepted image.

    Raises:
        InputError: the file has another modality, several frames, a color palette or too many pixels, is truncated or damaged,
            or an element of its header makes no sense.

    Example:
        >>> import io
        >>> import pydicom
        >>> dataset, file = Dataset(), io.BytesIO()
        >>> dataset.Modality, dataset.PatientSex, dataset.PatientAge = "DX", "F", "010Y"
        >>> dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.BitsAllocated = 4, 6, 1, 8
        >>> dataset.PhotometricInterpretation, dataset.PixelData = "MONOCHROME2", bytes(range(24))
        >>> _ = pydicom.dcmwrite(file, dataset, implicit_vr=True, little_endian=True)
        >>> gray = read_dicom(file, max_pixels=100)
        >>> gray.levels.shape, gray.patient
        ((4, 6), Patient(sex=<Sex.FEMALE: 0>, months=120.0))
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # they quote values
            dataset = parse(file.getvalue())
            file.close()
            return _read(dataset, max_pixels)
    except (InputError, MemoryError):
        raise
    except Exception:  # its text may quote values; raised outside of `except`, so that it is not the context
        pass
    raise InputError("the DICOM header is damaged: an element cannot be decoded; copy the file again")


def _read(dataset: Dataset, max_pixels: int) -> Gray:
    modality = text(dataset, "Modality").upper()
    if modality not in RADIOGRAPHS:
        named = f"modality {modality}" if len(modality) == 2 and modality.isalpha() else "another modality"
        raise InputError(f"the DICOM file has {named}; radiographs have CR, DX or RG")
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise InputError("the DICOM file holds no image")
    layout = read_layout(dataset, max_pixels)
    stored, notes = read_stored(dataset, layout, max_pixels)
    dataset.pop("PixelData", None)  # large, and no longer needed where the stored values are a copy
    if stored.ndim == 3:
        levels, declared = _luminance(stored), True
    else:
        levels, declared, more = _levels(dataset, layout, stored)
        notes += more
    del stored
    size = levels.shape[::-1]
    if (shape := _square_pixels(dataset, size)) != size:
        levels = resized_width(levels, shape[0]) if shape[0] != size[0] else resized_width(levels.T, shape[1]).T
        notes += (f"pixels were not square: boxes refer to an image resized to {shape[0]} x {shape[1]}",)
    patient, more = _patient(dataset)
    return Gray(levels, declared, patient, (*notes, *more, *_other_part(dataset)))


def _luminance(colors: np.ndarray) -> np.ndarray:
    levels = np.empty(colors.shape[:2], np.float32)
    for rows in bands(colors.shape):
        levels[rows] = colors[rows, :, :3].astype(np.float32) @ LUMINANCE
    return levels


def _levels(dataset: Dataset, layout: Layout, stored: np.ndarray) -> tuple[np.ndarray, bool, tuple[str, ...]]:
    """Gray levels [H, W] float32; whether the header declares their polarity, and they are a positive then; notes."""
    padded = _padding(dataset, stored)
    values, notes = apply_modality(dataset, stored)
    levels = apply_window(dataset, values)
    shape = SHAPES.get(text(dataset, "PresentationLUTShape").upper(), layout.photometric)
    declared = bool(layout.photometric) and shape == layout.photometric
    if declared and layout.photometric == "MONOCHROME1":
        np.subtract(levels.max(), levels, out=levels)
    if padded is not None:
        levels[padded] = levels.min(where=~padded, initial=np.inf)
    if not declared:
        why = (
            "the header does not declare the polarity"
            if not layout.photometric
            else "the header contradicts itself on the polarity"
        )
        negative = is_negative(levels)
        notes += (f"{why}: the picture was taken for a {'negative' if negative else 'positive'}",)
        if negative:
            np.subtract(levels.max(), levels, out=levels)
    return levels, True, notes


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where the image is padding, not detector signal: bool [H, W], or None."""
    first = numbers(dataset, "PixelPaddingValue")
    if len(first) != 1:
        return None
    edges = (first[0], number(dataset, "PixelPaddingRangeLimit", first[0]))
    modulus = float(1 << 8 * stored.dtype.itemsize)
    low, high = sorted(float(edge or 0) % modulus if stored.dtype.kind == "u" else float(edge or 0) for edge in edges)
    padded = (stored >= low) & (stored <= high)
    return padded if padded.any() and not padded.all() else None


def _square_pixels(dataset: Dataset, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the image with square pixels, by the first spacing (row, column) that the header has."""
    width, height = size
    for name in SPACINGS:
        spacing = numbers(dataset, name)
        if len(spacing) == 2 and min(spacing) > 0:
            ratio = spacing[0] / spacing[1]
            if abs(ratio - 1) < SQUARE or not 1 / WIDEST_ASPECT <= ratio <= WIDEST_ASPECT:
                break
            return (max(1, round(width / ratio)), height) if ratio > 1 else (width, max(1, round(height * ratio)))
    return width, height


def _patient(dataset: Dataset) -> tuple[Patient, tuple[str, ...]]:
    sex = SEXES.get(text(dataset, "PatientSex").upper(), Sex.UNKNOWN)
    age = text(dataset, "PatientAge").upper()
    if not (len(age) >= 2 and age[-1] in AGE_UNITS and age[:-1].isdecimal() and age.isascii()):
        return Patient(sex), ()
    months = int(age[:-1]) * MONTHS_PER[AGE_UNITS[age[-1]]]
    if 0 < months <= MAX_CHRONOLOGICAL_MONTHS:
        return Patient(sex, months), ()
    return Patient(sex), () if not months else ("the age in the DICOM header is impossible and was ignored",)


def _other_part(dataset: Dataset) -> tuple[str, ...]:
    part = " ".join(texts(dataset, "BodyPartExamined")).upper()
    if part and not any(hand in part for hand in HANDS):
        return ("the DICOM header names another body part than the hand",)
    return ()
