"""DICOM: a file's stored values to grey levels, dark background, and what it says of the patient. Nothing else of it is kept.

The order is the standard's (PS3.3, C.11): modality LUT or rescale, VOI LUT or window, then the photometric interpretation. No
message holds anything that was read from a file, but terms of the standard's own and numbers.
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
"""Modalities of projection radiography; OT is what secondary captures are often called."""

HANDS = ("HAND", "WRIST", "FINGER", "CARP", "THUMB", "EXTREM", "UPPER", "UP_EXM", "ARM")
"""Body parts that a radiograph of the hand is filed under contain one of these."""

AGE_UNITS = {"Y": "years", "M": "months", "W": "weeks", "D": "days"}
SEXES = {"M": Sex.MALE, "F": Sex.FEMALE}
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
SQUARE = 0.01
"""Pixels whose sides differ by less are square."""

PREAMBLE = 128
HEADER_BYTES = 2048
DEFLATED = "1.2.840.10008.1.2.1.99"

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it quotes values


class Patient(NamedTuple):
    """What a file says of whom it shows: sex, and the chronological age in months, None where it says nothing."""

    sex: Sex = Sex.UNKNOWN
    months: float | None = None


class DicomImage(NamedTuple):
    """Grey levels (mode `L` or `F`), bones bright; the patient; what was odd, in words."""

    grey: Image.Image
    patient: Patient
    notes: tuple[str, ...]


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does."""
    return data[PREAMBLE : PREAMBLE + 4] == b"DICM"


def read_dicom(data: bytes, max_pixels: int) -> DicomImage:
    """The image of a DICOM file of one radiograph.

    Args:
        data: of the file.
        max_pixels: that an image may have.

    Raises:
        InputError: another modality, several frames, colours from a palette, too large, cut short, or compressed in a way that
            nothing here decodes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote values
        image = _read(data, max_pixels)
    if image is None:  # out of reach of the exception, which quotes values too
        raise InputError(f"a DICOM file that cannot be decoded{_syntax(data)}: cut short, damaged, or unusual")
    levels, shape, patient, notes = image
    if not np.isfinite(levels).all():
        raise InputError("a DICOM file whose rescaling gives no numbers")
    grey = Image.fromarray(levels)
    if shape != grey.size:
        grey = grey.resize(shape, Image.Resampling.BILINEAR)
        notes = (*notes, f"pixels made square: boxes are in an image of {shape[0]} x {shape[1]}")
    return DicomImage(grey, patient, notes)


def _read(data: bytes, max_pixels: int) -> tuple[np.ndarray, tuple[int, int], Patient, tuple[str, ...]] | None:
    """Levels [H, W], size with square pixels, patient, notes; None for what cannot be read."""
    try:
        if DEFLATED.encode() in data[:HEADER_BYTES]:
            raise InputError("a DICOM file in the deflated transfer syntax, whose size nobody knows before; store it otherwise")
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
        raise InputError(f"a DICOM file of {named}; radiographs are CR, DX or RG")
    if "PixelData" not in dataset:
        raise InputError("a DICOM file without an image")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise InputError(f"a DICOM file of {frames} frames; give one radiograph a file")
    if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
        raise InputError("a DICOM file of colours from a palette; radiographs are grey")
    if dataset.Rows * dataset.Columns > max_pixels:
        raise InputError(
            f"an image of {dataset.Columns} x {dataset.Rows} pixels; the limit is {max_pixels // 1_000_000} million"
        )


def _levels(dataset: Dataset) -> np.ndarray:
    """Grey levels [H, W], float32, bones bright."""
    stored = dataset.pixel_array
    if stored.ndim == 3:
        colours = (stored >> max(0, int(dataset.BitsStored) - 8)).astype(np.uint8)
        return np.asarray(Image.fromarray(colours).convert("L"), np.float32)
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
    """Through the VOI LUT or the window, unless that leaves nothing to see."""
    try:
        tables = dataset.get("VOILUTSequence")
        through = _looked_up(tables[0], values) if tables else np.asarray(apply_windowing(values, dataset), np.float64)
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError):
        return values
    return through if np.ptp(through) > 0 else values


def _looked_up(item: Dataset, values: np.ndarray) -> np.ndarray:
    """Through a LUT. (pydicom's keeps the places in the type of the entries, where 4096 of 8 bits wrap around.)"""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 1 << 16
    stored = item.LUTData
    if isinstance(stored, bytes):
        packed = len(stored) < 2 * count
        entries = np.frombuffer(stored, np.uint8 if packed else np.uint16)
    else:
        entries = np.asarray(stored) & ((1 << bits) - 1)
    places = np.clip(values - first, 0, count - 1).astype(np.int64)
    return entries[:count].astype(np.float64)[places]


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Where the detector saw nothing, bool [H, W]."""
    first = dataset.get("PixelPaddingValue")
    if first is None or isinstance(first, bytes | MultiValue):
        return np.zeros(stored.shape, bool)
    last = dataset.get("PixelPaddingRangeLimit", first)
    return (stored >= min(first, last)) & (stored <= max(first, last))


def _square_pixels(dataset: Dataset) -> tuple[int, int]:
    """Width and height of the image with square pixels, by whichever spacing the file gives (rows first)."""
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
        return ("the file names another part of the body than the hand",)
    return ()


def _syntax(data: bytes) -> str:
    """The transfer syntax by its name in the standard, as part of a sentence; nothing if there is none."""
    try:
        syntax = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).file_meta.TransferSyntaxUID
        return f" ({syntax.name})" if syntax.is_transfer_syntax and not syntax.is_private else ""
    except Exception:
        return ""
