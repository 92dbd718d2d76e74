"""The elements of a DICOM header that baa needs, read tolerantly: scanners and archives write them in many ways.

An element that is absent or empty has its usual value. Anything that is there and makes no sense is an error that names the
element. To protect patients, messages quote nothing from a file but numbers and terms of the standard.
"""

import contextlib
import io
import logging
import math
import struct
import zlib
from typing import Any, NamedTuple

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from baa.errors import InputError

logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its messages quote values
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

PREAMBLE, MAGIC = 128, b"DICM"
META_GROUP, FIRST_GROUPS = 2, (2, 8)

MAX_INFLATED_BYTES = 256 << 20
"""A deflated file may not become larger than this. It is the largest image that is accepted, at 16 bits, and its header."""

MAX_ELEMENTS, MAX_ITEMS = 20_000, 100_000
"""Of the header, and of sequences and fragments of compressed pixels. Radiographs have hundreds."""

ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")

TEXT_VRS = frozenset({"DS", "IS", "CS", "AS", "LO", "SH", "UI"})
BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
SAMPLES, ALLOCATED = (1, 3, 4), (1, 8, 16, 32, 64)

PHOTOMETRIC = frozenset(
    {
        *("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
        "PALETTE COLOR",
    }
)


class Layout(NamedTuple):
    """The layout of the stored pixels.

    samples: 1 is gray. allocated, stored, high: bits of a sample in memory and in use, and the highest one in use. signed,
    planar: whether samples are, and whether colors are stored one after the other. photometric: a term of the standard; empty
    if the header has none.
    """

    rows: int
    columns: int
    samples: int
    allocated: int | None
    stored: int | None
    high: int | None
    signed: bool
    planar: bool
    photometric: str
    syntax: UID | None
    little_endian: bool


def is_dicom(data: bytes) -> bool:
    """Return whether the bytes begin like a DICOM file: with a preamble, or, as in old archives, with the first element.

    Example:
        >>> is_dicom(bytes(128) + b"DICM"), is_dicom(b"GIF89a..........")
        (True, False)
    """
    if data[PREAMBLE : PREAMBLE + 4] == MAGIC:
        return True
    if len(data) < 8:
        return False
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    for order in "<>":
        group, element, length = struct.unpack(f"{order}HHI", data[:8])
        if group in FIRST_GROUPS and element <= 0x0100 and (explicit or (order == "<" and length < 256)):
            return True
    return False


def parse(data: bytes) -> Dataset:
    """Parse the header, and keep the pixels as they are stored.

    Raises:
        InputError: the bytes cannot be parsed, or are deflated and become too large.
    """
    try:
        dataset = _parse(data)
    except InputError:
        raise
    except Exception:
        dataset = None
    if not dataset:
        raise InputError("the DICOM header cannot be parsed: the file is truncated or damaged; copy it again")
    return dataset


def _parse(data: bytes) -> Dataset:
    if sum(map(data.count, ITEM_TAGS)) > MAX_ITEMS:
        raise InputError(
            f"the DICOM file has more than {MAX_ITEMS:,} items in sequences or fragments of pixels; "
            "export it without private elements, or convert it to PNG"
        )
    file = _Measured(data)
    if data[PREAMBLE : PREAMBLE + 4] == MAGIC:
        file.seek(PREAMBLE + 4)
    counted = _Counter()
    meta = read_dataset(file, False, True, stop_when=lambda tag, *more: tag.group != META_GROUP or counted(tag, *more))
    if text(meta, "TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return read_partial(file, stop_when=counted, force=True)
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    body = inflater.decompress(memoryview(data)[file.tell() :], MAX_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        raise InputError(f"the deflated DICOM file becomes larger than {MAX_INFLATED_BYTES >> 20} MiB; store it uncompressed")
    return read_dataset(_Measured(body), False, True, stop_when=counted)


class _Measured(io.BytesIO):
    """A file that is not read to its end: pydicom inflates what it reads so, without a limit."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            raise InputError(
                "the DICOM header gives its transfer syntax in two ways; export the radiograph again, or convert it to PNG"
            )
        return super().read(size)


class _Counter:
    """Counts the elements of a file, nested ones apart."""

    def __init__(self) -> None:
        self.left = MAX_ELEMENTS

    def __call__(self, *element: Any) -> bool:
        self.left -= 1
        if self.left < 0:
            raise InputError(f"the DICOM header has more than {MAX_ELEMENTS:,} elements; export it without private elements")
        return False


def text(dataset: Dataset, name: str) -> str:
    """Return the text of an element without padding, the first of several values; empty if it is absent."""
    return (texts(dataset, name) or [""])[0]


def texts(dataset: Dataset, name: str) -> list[str]:
    """Return the values of a text element, without padding."""
    raw = _raw(dataset, name)
    if raw is None:
        return []
    if isinstance(raw, bytes):
        raw = raw.decode("latin-1")
    values = raw.split("\\") if isinstance(raw, str) else raw if isinstance(raw, list | tuple) else [raw]
    return [value for value in (str(value).strip(" \0\t\r\n") for value in values) if value]


def numbers(dataset: Dataset, name: str) -> list[float]:
    """Return the finite numbers of an element; none if it is absent or empty. A decimal comma is read as a point.

    Raises:
        InputError: a value is no finite number.

    Example:
        >>> dataset = Dataset()
        >>> dataset.WindowCenter = [2048, 1024]
        >>> numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
        ([2048.0, 1024.0], [])
    """
    raw = _raw(dataset, name)
    if isinstance(raw, int | float):
        values = [float(raw)]
    else:
        with contextlib.suppress(ValueError):
            values = [float(value.replace(",", ".")) for value in texts(dataset, name)]
            if all(map(math.isfinite, values)):
                return values
        raise InputError(f"the DICOM element {name} is not a number")
    if not math.isfinite(values[0]):
        raise InputError(f"the DICOM element {name} is not a finite number")
    return values


def number(dataset: Dataset, name: str, default: float | None = None) -> float | None:
    """Return the first number of an element, or `default`. Raises as `numbers`."""
    return next(iter(numbers(dataset, name)), default)


def whole_number(dataset: Dataset, name: str, default: int | None = None) -> int | None:
    """Return the first number of an element as an integer, or `default`.

    Raises:
        InputError: it is no integer, or negative.
    """
    value = number(dataset, name)
    if value is None:
        return default
    if value != int(value) or value < 0:
        raise InputError(f"the DICOM element {name} is {value:g}; it has to be a whole number")
    return int(value)


def _raw(dataset: Dataset, name: str) -> Any:
    """The value of an element: text as stored, numbers decoded. None if it is absent or empty."""
    tag = tag_for_keyword(name)
    assert tag is not None
    try:
        element = dataset.get_item(BaseTag(tag))
    except KeyError:
        return None
    if element is None:
        return None
    value = element.value
    if isinstance(element, RawDataElement) and isinstance(value, bytes):
        vr = element.VR or dictionary_VR(tag)
        if vr not in TEXT_VRS:
            code = BINARY.get(vr.split(" ")[0], "H" if len(value) % 4 else "I")
            order, size = "<" if element.is_little_endian else ">", struct.calcsize(code)
            value = list(struct.unpack(f"{order}{len(value) // size}{code}", value[: len(value) // size * size]))
    elif value is not None and not isinstance(value, bytes | str | int | float):
        value = [float(part) for part in value] if _is_numeric(value) else list(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return None if value is None or value in (b"", "", []) else value


def _is_numeric(value: Any) -> bool:
    try:
        return all(isinstance(float(part), float) for part in value)
    except (TypeError, ValueError):
        return False


def read_layout(dataset: Dataset, max_pixels: int) -> Layout:
    """Read how the pixels are stored.

    Raises:
        InputError: the file has several frames, a color palette or too many pixels, or an element makes no sense.
    """
    rows, columns = (whole_number(dataset, name, 0) for name in ("Rows", "Columns"))
    for name, value in (("Rows", rows), ("Columns", columns)):
        if not value:
            raise InputError(f"the DICOM element {name} is missing; export the radiograph again, or convert it to PNG")
    assert rows is not None
    assert columns is not None
    if rows * columns > max_pixels:
        raise InputError(f"the image has {columns} x {rows} pixels; the limit is {max_pixels // 1_000_000} million")
    if (frames := whole_number(dataset, "NumberOfFrames", 1)) not in (0, 1):
        raise InputError(f"the DICOM file holds {frames} frames; give one radiograph per file")
    photometric = text(dataset, "PhotometricInterpretation").upper()
    if photometric and photometric not in PHOTOMETRIC:
        raise InputError(
            "the DICOM element PhotometricInterpretation is no term of the standard; store MONOCHROME1 or MONOCHROME2"
        )
    if photometric == "PALETTE COLOR":
        raise InputError("the DICOM file uses a color palette; store the radiograph as gray")
    color = photometric not in ("", "MONOCHROME1", "MONOCHROME2")
    samples = whole_number(dataset, "SamplesPerPixel", 3 if color else 1)
    if samples not in SAMPLES:
        raise InputError(f"the DICOM element SamplesPerPixel is {samples}; it has to be one of {', '.join(map(str, SAMPLES))}")
    assert samples is not None
    allocated = whole_number(dataset, "BitsAllocated")
    if allocated is not None and allocated not in ALLOCATED:
        raise InputError(
            f"the DICOM element BitsAllocated is {allocated}; it has to be one of {', '.join(map(str, ALLOCATED))}"
        )
    syntax = text(getattr(dataset, "file_meta", Dataset()), "TransferSyntaxUID")
    return Layout(
        rows=rows,
        columns=columns,
        samples=samples,
        allocated=allocated,
        stored=whole_number(dataset, "BitsStored") or None,
        high=whole_number(dataset, "HighBit"),
        signed=whole_number(dataset, "PixelRepresentation", 0) == 1,
        planar=whole_number(dataset, "PlanarConfiguration", 0) == 1,
        photometric=photometric,
        syntax=UID(syntax) if syntax else None,
        little_endian=getattr(dataset, "original_encoding", (None, True))[1] is not False,
    )
