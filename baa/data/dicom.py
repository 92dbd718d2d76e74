"""A DICOM file to gray levels, bones bright, and the patient's sex and age. Nothing else of the header is kept.

The order is the standard's (PS3.3, C.11): modality LUT or rescale, VOI LUT or window, then the photometric interpretation. To
protect patients, messages quote nothing from a file but numbers and terms of the standard.
"""

import io
import logging
import warnings
from typing import NamedTuple

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, apply_windowing

from baa.errors import InputError
from baa.patient import MONTHS_PER, Sex

RADIOGRAPHS = frozenset({"CR", "DX", "RG", "OT", ""})
"""Modalities of projection radiography. Secondary captures are often OT."""

HANDS = ("HAND", "WRIST", "FINGER", "CARP", "THUMB", "EXTREM", "UPPER", "UP_EXM", "ARM")
"""The body part of a hand radiograph contains one of these."""

AGE_UNITS = {"Y": "years", "M": "months", "W": "weeks", "D": "days"}
SEXES = {"M": Sex.MALE, "F": Sex.FEMALE}
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
SQUARE = 0.01
"""Pixels whose sides differ by less than this share count as square."""

PREAMBLE = 128
HEADER_BYTES = 2048
DEFLATED = "1.2.840.10008.1.2.1.99"

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote values


class Patient(NamedTuple):
    """The patient in a file's header: sex, and chronological age in months or None."""

    sex: Sex = Sex.UNKNOWN
    months: float | None = None


class DicomImage(NamedTuple):
    """Gray levels (mode `F`), bones bright; the patient; notes on what is unusual."""

    gray: Image.Image
    patient: Patient
    notes: tuple[str, ...]


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin like a DICOM file."""
    return data[PREAMBLE : PREAMBLE + 4] == b"DICM"


def read_dicom(data: bytes, max_pixels: int) -> DicomImage:
    """Read a DICOM file of one radiograph.

    Args:
        data: the bytes of the file.
        max_pixels: the largest accepted image.

    Raises:
        InputError: the file has another modality, several frames, a color palette or too many pixels, is truncated, or no
            decoder reads its compression.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings quote values
        image = _read(data, max_pixels)
    if image is None:  # raised outside of `except`: the original exception quotes values too
        raise InputError(
            f"the DICOM file cannot be decoded{_syntax(data)}: it is truncated, damaged, or of an unsupported kind"
        )
    levels, shape, patient, notes = image
    if not np.isfinite(levels).all():
        raise InputError("the DICOM rescale gives values that are not numbers")
    gray = Image.fromarray(levels)
    if shape != gray.size:
        gray = gray.resize(shape, Image.Resampling.BILINEAR)
        notes = (*notes, f"pixels were not square: boxes refer to an image resized to {shape[0]} x {shape[1]}")
    return DicomImage(gray, patient, notes)


def _read(data: bytes, max_pixels: int) -> tuple[np.ndarray, tuple[int, int], Patient, tuple[str, ...]] | None:
    """Levels [H, W], (width, height) with square pixels, patient, notes; None if the file cannot be read."""
    try:
        if DEFLATED.encode() in data[:HEADER_BYTES]:
            raise InputError(
                "the DICOM file is deflated, so its decoded size is unknown in advance; store it in another transfer syntax"
            )
        dataset = pydicom.dcmread(io.BytesIO(data))
        _refuse(dataset, max_pixels)
        return _levels(dataset), _square_pixels(dataset), _patient(dataset), _notes(dataset)
    except InputError:
        raise
    except Exception:
        return None


def _refuse(dataset: Dataset, max_pixels: int) -> None:
    modality = str(dataset.get("Modality") or "").upper()
    if modality not in RADIOGRAPHS:
        named = f"modality {modality}" if len(modality) == 2 and modality.isalpha() else "another modality"
        raise InputError(f"the DICOM file has {named}; radiographs have CR, DX or RG")
    if "PixelData" not in dataset:
        raise InputError("the DICOM file holds no image")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise InputError(f"the DICOM file holds {frames} frames; give one radiograph per file")
    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        raise InputError("the DICOM file uses a color palette; store the radiograph as gray")
    if dataset.Rows * dataset.Columns > max_pixels:
        raise InputError(
            f"the image has {dataset.Columns} x {dataset.Rows} pixels; the limit is {max_pixels // 1_000_000} million"
        )


def _levels(dataset: Dataset) -> np.ndarray:
    """Gray levels [H, W], float32, bones bright."""
    stored = dataset.pixel_array
    if stored.ndim == 3:
        colors = (stored >> max(0, int(dataset.BitsStored) - 8)).astype(np.uint8)
        return np.asarray(Image.fromarray(colors).convert("L"), np.float32)
    padded = _padding(dataset, stored)
    values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
    levels = _windowed(dataset, values)
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        levels = levels.max() - levels
    levels = levels.astype(np.float32)
    if padded.any() and not padded.all():
        levels[padded] = levels[~padded].min()
    return levels


def _windowed(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    """Apply the VOI LUT or the window, unless the result is uniform or the header is invalid."""
    try:
        tables = dataset.get("VOILUTSequence")
        windowed = _looked_up(tables[0], values) if tables else np.asarray(apply_windowing(values, dataset), np.float64)
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError):
        return values
    return windowed if np.ptp(windowed) > 0 else values


def _looked_up(item: Dataset, values: np.ndarray) -> np.ndarray:
    """Apply a LUT. pydicom's `apply_voi` stores indices in the dtype of the entries: 4096 entries of 8 bits wrap around."""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 1 << 16
    stored = item.LUTData
    if isinstance(stored, bytes):
        packed = len(stored) < 2 * count
        entries = np.frombuffer(stored, np.uint8 if packed else np.uint16)
    else:
        entries = np.asarray(stored) & ((1 << bits) - 1)
    indices = np.clip(values - first, 0, count - 1).astype(np.int64)
    return entries[:count].astype(np.float64)[indices]


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Where the image is padding, not detector signal: bool [H, W]."""
    first = dataset.get("PixelPaddingValue")
    if first is None or isinstance(first, bytes | MultiValue):
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit", first)
    return (stored >= min(first, last)) & (stored <= max(first, last))


def _square_pixels(dataset: Dataset) -> tuple[int, int]:
    """Width and height of the image with square pixels, by the first spacing (row, column) that the header has."""
    width, height = int(dataset.Columns), int(dataset.Rows)
    for name in SPACINGS:
        spacing = dataset.get(name)
        if isinstance(spacing, MultiValue) and len(spacing) == 2 and min(map(float, spacing)) > 0:
            ratio = float(spacing[0]) / float(spacing[1])
            if abs(ratio - 1) < SQUARE or not 0.25 <= ratio <= 4:
                break
            return (round(width / ratio), height) if ratio > 1 else (width, round(height * ratio))
    return width, height


def _patient(dataset: Dataset) -> Patient:
    sex = SEXES.get(str(dataset.get("PatientSex") or "").strip().upper(), Sex.UNKNOWN)
    age = str(dataset.get("PatientAge") or "").strip().upper()
    if len(age) >= 2 and age[-1] in AGE_UNITS and age[:-1].isdigit():
        return Patient(sex, int(age[:-1]) * MONTHS_PER[AGE_UNITS[age[-1]]])
    return Patient(sex)


def _notes(dataset: Dataset) -> tuple[str, ...]:
    part = str(dataset.get("BodyPartExamined") or "").upper()
    if part and not any(hand in part for hand in HANDS):
        return ("the DICOM header names another body part than the hand",)
    return ()


def _syntax(data: bytes) -> str:
    """The standard's name of the transfer syntax, in parentheses; empty if there is none."""
    try:
        syntax = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).file_meta.TransferSyntaxUID
        return f" ({syntax.name})" if syntax.is_transfer_syntax and not syntax.is_private else ""
    except Exception:
        return ""
