"""DICOM files: the standard's order of LUTs and inversions, the patient in the header, and errors that quote no header."""

import imagecodecs
import numpy as np
import pytest
from dicom_file import PLANTED, dicom
from fuzzed import run_lengths
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from baa.data.read.decode import decode
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError
from baa.patient import Sex


@pytest.fixture(scope="module")
def hand():
    """A phantom's gray levels, [240, 200] uint8."""
    return phantom_cases(1, seed=3)[0].image.load(240).pixels[:, 20:-20]


def same(a, b):
    """Mean difference of two radiographs, gray levels."""
    return np.abs(a.pixels.astype(int) - b.pixels.astype(int)).mean()


def test_every_encoding_of_a_film_is_the_same_radiograph(hand):
    wide = hand.astype(np.uint16) * 16
    plain = decode(dicom(hand), 240)
    assert (plain.width, plain.height) == (200, 240)
    for encoded in (
        dicom(wide, BitsStored=12, HighBit=11),
        dicom(wide, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-1024),
        dicom((wide.astype(np.int32) - 2048).astype(np.int16)),
        dicom(4095 - wide, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1"),
        dicom(4095 - wide, BitsStored=12, HighBit=11, PresentationLUTShape="INVERSE"),
        dicom(4095 - wide, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"),
        dicom(4095 - wide, BitsStored=12, HighBit=11, RescaleSlope=-1, RescaleIntercept=4095),
        dicom(wide, BitsStored=12, HighBit=11, WindowCenter=2040, WindowWidth=4100),
        dicom(wide, BitsStored=12, HighBit=11, WindowCenter=-9000, WindowWidth=10),  # a window outside the levels
    ):
        radiograph = decode(encoded, 240)
        assert same(radiograph, plain) < 1
        assert not radiograph.inverted


def test_a_window_cuts_what_lies_outside_it(hand):
    ramp = np.tile(np.arange(4096, dtype=np.uint16)[::8], (256, 1))
    row = decode(dicom(ramp, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=1024), 512).pixels[256]
    assert (row[:180] == 0).all()
    assert (row[-180:] == 255).all()
    assert 100 < row[256] < 155


def test_a_lookup_table_is_applied_after_the_rescale(hand):
    table = Dataset()
    table.LUTDescriptor = [256, 100, 16]
    table.LUTData = np.arange(65535, 65535 - 256 * 200, -200, dtype=np.uint16).tobytes()
    turned = decode(dicom(hand, RescaleSlope=1, RescaleIntercept=100, VOILUTSequence=[table]), 240)
    assert same(turned, decode(dicom(255 - hand), 240)) < 1


@pytest.mark.parametrize("packed", [True, False])
def test_a_long_table_of_short_entries_does_not_wrap(packed):
    entries = np.arange(4096) // 16
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 8]
    table.LUTData = entries.astype(np.uint8 if packed else np.uint16).tobytes()
    ramp = np.tile(np.arange(4096, dtype=np.uint16)[::8], (256, 1))
    row = decode(dicom(ramp, BitsStored=12, HighBit=11, VOILUTSequence=[table]), 512).pixels[256].astype(int)
    assert (np.diff(row) >= 0).all()
    assert len(set(row)) > 200


def test_colors_of_16_bits_keep_their_order():
    ramp = np.tile(np.linspace(0, 65535, 200).astype(np.uint16)[None, :, None], (50, 1, 3))
    colors = dicom(
        ramp[:, :, 0], SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, PixelData=ramp.tobytes()
    )
    row = decode(colors, 200).pixels[100].astype(int)
    assert (np.diff(row) >= 0).all()
    assert row[-3] > 245


def test_padding_is_dark_and_does_not_move_the_levels(hand):
    padded = hand.astype(np.int16)
    padded[:200, :40] = -2000
    film = decode(dicom(padded, PixelPaddingValue=-2000), 240).pixels
    assert (film[:200, 20:60] == 0).all()
    assert np.abs(film[:, 60:220].astype(int) - decode(dicom(hand), 240).pixels[:, 60:220]).mean() < 8


@pytest.mark.parametrize(("x", "y"), [(1, 2), (2, 1)])
def test_an_image_with_pixels_that_are_not_square_is_resized(hand, x, y):
    film = decode(dicom(np.ascontiguousarray(hand[::y, ::x]), PixelSpacing=[0.1 * y, 0.1 * x]), 120)
    assert (film.width, film.height) == (hand.shape[1] // 2, hand.shape[0] // 2)
    assert same(film, decode(dicom(hand), 120)) < 5
    assert "not square" in film.notes[0]


def packed(stored, syntax, stream, **tags):
    """The bytes of a DICOM file whose pixels are a compressed stream."""
    return dicom(stored, PixelData=encapsulate([stream]), syntax=syntax, **tags)


ENCODERS = {
    JPEGBaseline8Bit: lambda levels: imagecodecs.jpeg8_encode(levels, level=98),
    JPEGExtended12Bit: lambda levels: imagecodecs.jpeg8_encode(levels.astype(np.uint16) * 16, level=98, bitspersample=12),
    JPEGLosslessSV1: lambda levels: imagecodecs.jpeg8_encode(levels, lossless=True, predictor=1),
    JPEGLossless: lambda levels: imagecodecs.jpeg8_encode(levels.astype(np.uint16) * 257, lossless=True, bitspersample=16),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEG2000Lossless: lambda levels: imagecodecs.jpeg2k_encode(levels, level=0, codecformat="j2k"),
    JPEG2000: lambda levels: imagecodecs.jpeg2k_encode(levels, level=0, codecformat="jp2"),
    RLELossless: run_lengths,
}


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.keyword)
def test_compressed_files_are_read(hand, syntax):
    lossy = syntax in (JPEGBaseline8Bit, JPEGExtended12Bit)
    read = decode(packed(hand, syntax, ENCODERS[syntax](hand)), 240)
    assert same(read, decode(dicom(hand), 240)) <= (2 if lossy else 0)
    assert read.notes == ()


def test_sex_and_age_of_the_patient_are_read(hand):
    assert decode(dicom(hand, PatientSex="F", PatientAge="012Y"), 64).patient == (Sex.FEMALE, 144)
    assert decode(dicom(hand, PatientSex="M", PatientAge="007M"), 64).patient == (Sex.MALE, 7)
    assert decode(dicom(hand, PatientSex="O", PatientAge="old"), 64).patient == (Sex.UNKNOWN, None)
    assert decode(dicom(hand), 64).patient == (Sex.UNKNOWN, None)


def test_another_part_of_the_body_is_noted(hand):
    assert decode(dicom(hand, BodyPartExamined="LHAND"), 64).notes == ()
    assert "another body part" in decode(dicom(hand, BodyPartExamined="CHEST"), 64).notes[0]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "MR"}, "modality MR"),
        ({"Modality": PLANTED}, "another modality"),
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PixelData": None}, "holds no image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
        ({"Rows": 30_000, "Columns": 30_000}, "30000 x 30000"),
        ({"Rows": 500}, "PixelData has 48000 bytes; Rows, .* need 100000"),
        ({"BitsAllocated": 7}, "BitsAllocated is 7"),
        ({"RescaleSlope": "nan", "RescaleIntercept": 0}, "RescaleSlope is not a finite number|RescaleSlope is not a number"),
    ],
)
def test_a_file_that_is_no_single_radiograph_is_refused_and_not_quoted(hand, tags, reason, caplog, capfd):
    with pytest.raises(InputError, match=reason) as refused:
        decode(dicom(hand, **tags), 64)
    assert "SECRET" not in str(refused.value) + caplog.text + "".join(capfd.readouterr())


def test_a_file_that_is_not_deflated_though_it_says_so_is_refused(hand):
    whole, syntax = dicom(hand), b"1.2.840.10008.1.2.1.99"
    place = whole.index(b"1.2.840.10008.1.2.1\0")
    changed = whole[: place - 2] + len(syntax).to_bytes(2, "little") + syntax + whole[place + 20 :]
    with pytest.raises(InputError, match="the DICOM header cannot be parsed") as refused:
        decode(changed, 64)
    assert refused.value.__context__ is None


def test_a_truncated_file_is_refused(hand):
    whole = dicom(hand)
    for kept in (140, 400, len(whole) // 2):
        with pytest.raises(InputError, match="DICOM|PixelData"):
            decode(whole[:kept], 64)
