"""DICOM headers that contradict the pixels, or miss elements: the film is read, or the element is named."""

import imagecodecs
import numpy as np
import pytest
from dicom_file import PLANTED, dicom
from fuzzed import run_lengths
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from baa.data.read.decode import decode
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError


@pytest.fixture(scope="module")
def hand():
    """A phantom's gray levels of 12 bits, [240, 200] uint16."""
    pixels = phantom_cases(1, seed=3)[0].image.load(240).pixels[:, 20:-20]
    return pixels.astype(np.uint16) * 16 + 15


@pytest.fixture(scope="module")
def plain(hand):
    return decode(twelve(hand), 240)


def twelve(hand, **tags):
    return dicom(hand, **{"BitsStored": 12, "HighBit": 11} | tags)


def difference(data, plain):
    return np.abs(decode(data, 240).pixels.astype(int) - plain.pixels).mean()


WRONG_BITS = {
    "10 bits are declared": {"BitsStored": 10, "HighBit": 9},
    "8 bits are declared": {"BitsStored": 8, "HighBit": 7},
    "all bits are declared": {"BitsStored": 16, "HighBit": 15},
    "signed values are declared": {"PixelRepresentation": 1},
    "signed values of 10 bits are declared": {"PixelRepresentation": 1, "BitsStored": 10, "HighBit": 9},
    "the highest bit is too high": {"HighBit": 15},
    "the highest bit is too low": {"HighBit": 7},
    "BitsStored is missing": {"BitsStored": None, "HighBit": None},
    "more bits than allocated": {"BitsStored": 24, "HighBit": 23},
}


@pytest.mark.parametrize("kind", WRONG_BITS)
def test_wrong_bits_do_not_change_the_radiograph(hand, plain, kind):
    assert difference(twelve(hand, **WRONG_BITS[kind]), plain) < 1


def test_a_header_that_contradicts_the_values_is_noted(hand, plain):
    [note] = decode(twelve(hand, BitsStored=10, HighBit=9), 240).notes
    assert "more bits than BitsStored" in note
    assert plain.notes == ()


def test_what_is_declared_rightly_is_obeyed(hand, plain):
    signed = (hand.astype(np.int32) - 2048).astype(np.int16)
    assert difference(twelve(signed, PixelRepresentation=1), plain) < 1
    assert difference(dicom((signed & 0x0FFF).astype(np.uint16), BitsStored=12, HighBit=11, PixelRepresentation=1), plain) < 1
    overlay = hand.copy()
    overlay[50:90, 40:80] |= 0x8000  # an overlay in an unused bit
    assert difference(twelve(overlay), plain) < 1
    high = dicom(hand << 4, BitsStored=12, HighBit=15)
    assert difference(high, plain) < 1
    assert decode(high, 240).notes == ()


def test_values_whose_sign_cannot_be_told_are_noted(hand):
    """Of a dark film only one bright place reaches the bit of the sign."""
    y, x = np.mgrid[:240, :200]
    dark = (hand // 3 + 1800 * np.exp(-((x - 100) ** 2 + (y - 120) ** 2) / 50)).astype(np.uint16)
    notes = decode(twelve(dark, PixelRepresentation=1), 240).notes
    assert any("may be unsigned" in note for note in notes)
    assert decode(twelve(dark), 240).notes == ()


def test_swapped_bytes_are_read(hand, plain):
    swapped = decode(twelve(hand.byteswap()), 240)
    assert np.abs(swapped.pixels.astype(int) - plain.pixels).mean() < 1
    assert "swapped" in swapped.notes[0]


def encoded(hand, syntax, stream, **tags):
    return dicom(hand, syntax=syntax, PixelData=encapsulate([stream]), **tags)


def test_a_stream_knows_its_bits_and_size_better_than_the_header(hand, plain):
    eight = (hand >> 4).astype(np.uint8)
    jpeg = imagecodecs.jpeg8_encode(eight, level=98)
    for bits in (5, 7, 12, 16):
        assert difference(encoded(eight, JPEGBaseline8Bit, jpeg, BitsStored=bits, HighBit=bits - 1), plain) < 2
    for kind, syntax in ((imagecodecs.jpegls_encode, JPEGLSLossless), (imagecodecs.jpeg2k_encode, JPEG2000Lossless)):
        stream = kind(hand) if kind is imagecodecs.jpegls_encode else kind(hand, level=0, codecformat="j2k", bitspersample=12)
        for tags in ({"BitsStored": 10, "HighBit": 9}, {"BitsStored": 16, "HighBit": 15}, {"PixelRepresentation": 1}):
            assert difference(encoded(hand, syntax, stream, **tags), plain) < 1
        read = decode(encoded(hand, syntax, stream, Rows=100, Columns=900), 240)
        assert np.abs(read.pixels.astype(int) - plain.pixels).mean() < 1
        assert "the header has 900 x 100 pixels, the compressed image has 200 x 240" in read.notes
    assert difference(encoded(eight, JPEGBaseline8Bit, jpeg, SamplesPerPixel=3, PhotometricInterpretation="RGB"), plain) < 2


@pytest.mark.parametrize("bits", [6, 7])
def test_jpeg_ls_of_few_bits_is_read(hand, bits):
    few = (hand >> (12 - bits)).astype(np.uint8)
    stream = bytearray(imagecodecs.jpegls_encode(few))
    read = decode(encoded(few, JPEGLSLossless, bytes(stream), BitsStored=bits, HighBit=bits - 1), 240)
    assert np.abs(read.pixels.astype(int) - decode(dicom(few), 240).pixels).mean() < 1


def test_the_syntax_of_the_pixels_is_read_from_the_pixels(hand, plain):
    stream = imagecodecs.jpegls_encode(hand)
    assert difference(encoded(hand, JPEG2000Lossless, stream, BitsStored=12, HighBit=11), plain) < 1
    whole, syntax = twelve(hand), b"1.2.840.10008.1.2.4.80"
    place = whole.index(b"1.2.840.10008.1.2.1\0")
    native = whole[: place - 2] + len(syntax).to_bytes(2, "little") + syntax + whole[place + 20 :]
    assert difference(native, plain) < 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_encoding_of_the_header_is_read(hand, plain, syntax):
    stored = hand.byteswap() if syntax == ExplicitVRBigEndian else hand
    assert difference(twelve(stored, syntax=syntax), plain) < 1


def test_a_deflated_file_that_becomes_huge_is_refused(monkeypatch):
    monkeypatch.setattr("baa.data.read.header.MAX_INFLATED_BYTES", 1 << 20)
    bomb = dicom(np.zeros((1000, 1000), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    assert len(bomb) < 1 << 14
    with pytest.raises(InputError, match="becomes larger than 1 MiB"):
        decode(bomb, 64)


def test_files_without_preamble_or_meta_are_read(hand, plain):
    whole = twelve(hand, syntax=ImplicitVRLittleEndian)
    without_preamble = whole[132:]
    without_meta = whole[whole.index(b"\x08\x00\x16\x00") :]
    for data in (without_preamble, without_meta, b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100" + without_meta):
        assert difference(data, plain) < 1


MISSING_OR_UNUSUAL = {
    "RescaleSlope is empty": {"RescaleSlope": "", "RescaleIntercept": ""},
    "the intercept is empty": {"RescaleSlope": "1", "RescaleIntercept": ""},
    "a slope of 0": {"RescaleSlope": "0", "RescaleIntercept": "5"},
    "SamplesPerPixel is missing": {"SamplesPerPixel": None},
    "PhotometricInterpretation is missing": {"PhotometricInterpretation": None},
    "PhotometricInterpretation is in small letters": {"PhotometricInterpretation": "monochrome2 "},
    "PixelRepresentation is missing": {"PixelRepresentation": None},
    "BitsAllocated is wrong": {"BitsAllocated": 8},
    "NumberOfFrames is 0": {"NumberOfFrames": "0"},
    "a window that leaves nothing, and one that does": {"WindowCenter": ["-9000", "2048"], "WindowWidth": ["10", "4096"]},
    "more centers than widths": {"WindowCenter": ["2048", "1"], "WindowWidth": "4096"},
    "a width of 0": {"WindowCenter": "2048", "WindowWidth": "0"},
    "an empty window": {"WindowCenter": "", "WindowWidth": ""},
    "Modality is missing": {"Modality": None},
}


@pytest.mark.parametrize("kind", MISSING_OR_UNUSUAL)
def test_missing_and_unusual_elements_do_not_change_the_radiograph(hand, plain, kind):
    assert difference(twelve(hand, **MISSING_OR_UNUSUAL[kind]), plain) < 1


def test_a_decimal_comma_is_read(hand, plain):
    data = twelve(hand, RescaleSlope="1.5", RescaleIntercept="-10.25", WindowCenter="3061.75", WindowWidth="6142.5")
    for number in (b"1.5", b"10.25", b"3061.75", b"6142.5"):
        data = data.replace(number, number.replace(b".", b","))
    assert difference(data, plain) < 1


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_modality_lut_of_any_bits_is_applied(hand, plain, bits):
    table = Dataset()
    table.LUTDescriptor = [4096, 0, bits]
    table.LUTData = (np.arange(4096) >> max(0, 12 - bits)).astype(np.uint16).tobytes()
    table.ModalityLUTType = "US"
    assert difference(twelve(hand, ModalityLUTSequence=[table]), plain) < 2


def test_a_voi_lut_that_is_shorter_than_its_descriptor_is_applied(hand, plain):
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = (np.arange(4090) * 16).astype(np.uint16).tobytes()
    assert difference(twelve(hand, VOILUTSequence=[table]), plain) < 1


@pytest.mark.parametrize(
    ("name", "dtype", "bits"), [("FloatPixelData", np.float32, 32), ("DoubleFloatPixelData", np.float64, 64)]
)
def test_pixels_that_are_floats_are_read(hand, plain, name, dtype, bits):
    floats = (hand / 4096).astype(dtype)
    data = dicom(hand, PixelData=None, BitsAllocated=bits, **{name: floats.tobytes()})
    assert difference(data, plain) < 1


POLARITY = {
    "a negative slope with a window": (
        {"RescaleSlope": "-1", "RescaleIntercept": "4095", "WindowCenter": "2048", "WindowWidth": "4096"},
        True,
    ),
    "MONOCHROME1": ({"PhotometricInterpretation": "MONOCHROME1"}, True),
    "MONOCHROME1 and INVERSE": ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
    "MONOCHROME1 and a window": (
        {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": "2048", "WindowWidth": "4096"},
        True,
    ),
    "MONOCHROME2 and INVERSE, a negative": ({"PresentationLUTShape": "INVERSE"}, True),
    "MONOCHROME2 and INVERSE, a positive": ({"PresentationLUTShape": "INVERSE"}, False),
    "MONOCHROME1 and IDENTITY, a positive": (
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
        False,
    ),
    "no declaration, a negative": ({"PhotometricInterpretation": None}, True),
}


@pytest.mark.parametrize("kind", POLARITY)
def test_bones_are_bright_whatever_the_polarity(hand, plain, kind):
    tags, negative = POLARITY[kind]
    assert difference(twelve(4095 - hand if negative else hand, **tags), plain) < 1


def test_a_bright_surround_does_not_turn_a_film_against_its_header(hand, plain):
    framed = np.random.default_rng(0).integers(0, 300, (380, 340), np.uint16)  # dark in storage, bright as MONOCHROME1
    framed[70:-70, 70:-70] = 4095 - hand
    read = decode(twelve(framed, PhotometricInterpretation="MONOCHROME1"), 240)
    assert not read.inverted
    assert np.abs(np.subtract(read.frame, (50, 70, 240))).max() < 9  # the surround is cut as a margin
    assert read.notes == plain.notes


def test_a_polarity_that_the_picture_contradicts_is_obeyed_and_noted(hand, plain):
    read = decode(twelve(hand, PhotometricInterpretation="MONOCHROME1"), 240)
    assert not read.inverted
    assert ["looks like a negative" in note for note in read.notes] == [True]
    assert plain.notes == ()


REFUSED = {
    "Rows": ({"Rows": 0}, b"", b""),
    "SamplesPerPixel": ({"SamplesPerPixel": 2}, b"", b""),
    "PhotometricInterpretation": ({"PhotometricInterpretation": "HSV"}, b"", b""),
    "WindowCenter": ({"WindowCenter": "8888", "WindowWidth": "4096"}, b"8888", b"high"),
    "RescaleIntercept": ({"RescaleIntercept": "7777"}, b"7777", b" inf"),
    "PixelData": ({"Rows": 239}, b"", b""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_element_that_makes_no_sense_is_named(hand, name):
    tags, old, new = REFUSED[name]
    with pytest.raises(InputError, match=name) as refused:
        decode(twelve(hand, **tags).replace(old, new), 64)
    assert PLANTED not in str(refused.value)


@pytest.mark.parametrize(
    ("age", "months"), [("000Y", None), ("000D", None), ("121Y", None), ("120Y", 1440), ("003W", 0.69), ("-05Y", None)]
)
def test_ages_in_headers_have_the_limits_of_ages_in_tables(hand, age, months):
    assert decode(twelve(hand, PatientAge=age), 64).patient.months == (
        None if months is None else pytest.approx(months, abs=0.01)
    )


BITS = [8, 10, 12, 14, 16]


@pytest.mark.parametrize("codec", ["JPEG-LS", "JPEG 2000", "JPEG lossless", "RLE", "none"])
def test_every_pair_of_declared_and_stored_bits_is_read(hand, codec):
    small = hand[::2, ::2]
    expected = decode(dicom(small), 64).pixels.astype(int)
    for bits in BITS:
        stored = (small >> (12 - bits) if bits < 12 else small << (bits - 12)).astype(np.uint16 if bits > 8 else np.uint8)
        encode = {
            "JPEG-LS": lambda levels: imagecodecs.jpegls_encode(levels),
            "JPEG 2000": lambda levels, bits=bits: imagecodecs.jpeg2k_encode(
                levels, level=0, codecformat="j2k", bitspersample=bits
            ),
            "JPEG lossless": lambda levels, bits=bits: imagecodecs.jpeg8_encode(levels, lossless=True, bitspersample=bits),
            "RLE": run_lengths,
            "none": None,
        }[codec]
        syntax = {"JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless, "JPEG lossless": JPEGLosslessSV1}.get(codec)
        pixels = {} if encode is None else {"PixelData": encapsulate([encode(stored)]), "syntax": syntax or RLELossless}
        for said in BITS:
            for signed in (0, 1):
                tags = {"BitsStored": said, "HighBit": said - 1, "PixelRepresentation": signed}
                for allocated in (8, 16) if codec.startswith("JPEG") else (8 * stored.itemsize,):
                    read = decode(dicom(stored, BitsAllocated=allocated, **tags, **pixels), 64)
                    off = np.abs(read.pixels - expected).mean()
                    assert off < 3, (bits, said, signed, allocated, off)


def test_a_meta_header_without_transfer_syntax_is_read(hand, plain):
    whole = twelve(hand)
    place = whole.index(b"1.2.840.10008.1.2.1\0") - 8
    assert difference(whole[:place] + whole[place + 28 :], plain) < 1
