"""A large film takes at most 12 bytes a pixel at the peak, the file itself included."""

import io
import logging
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from dicom_file import dicom
from fuzzed import peak_bytes
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from baa.data.read.process import _Decoder

PX, MOST_BYTES = 6900, 12.0

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell the peak memory")


@pytest.fixture(scope="module")
def film():
    """A smooth film of 12 bits, [6900, 6900] uint16."""
    line = np.sin(np.arange(PX, dtype=np.float32) / 700)
    return (2048 + 1900 * line[:, None] * np.cos(np.arange(PX, dtype=np.float32) / 500)).astype(np.uint16)


def saved(levels, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, kind, **options)
    return stream.getvalue()


def tiff(levels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, levels, **options)
    return stream.getvalue()


def twelve(film, *more, **tags):
    return dicom(film, *more, **{"BitsStored": 12, "HighBit": 11} | tags)


def packed(film, syntax, stream, **tags):
    return twelve(film, syntax, PixelData=encapsulate([stream]), **tags)


def eight(film):
    return (film >> 4).astype(np.uint8)


WINDOW = {"WindowCenter": "2048", "WindowWidth": "3000", "RescaleSlope": "1", "RescaleIntercept": "0"}

FILMS = {
    "DICOM": lambda film: twelve(film),
    "DICOM, window and MONOCHROME1": lambda film: twelve(film, PhotometricInterpretation="MONOCHROME1", **WINDOW),
    "PNG of 16 bits": lambda film: saved(film, "PNG", compress_level=1),
}
MORE = {
    "DICOM, sigmoid and padding": lambda film: twelve(film, VOILUTFunction="SIGMOID", PixelPaddingValue=500, **WINDOW),
    "DICOM, no polarity": lambda film: twelve(film, PhotometricInterpretation=None),
    "deflated DICOM": lambda film: twelve(film, DeflatedExplicitVRLittleEndian),
    "JPEG-LS": lambda film: packed(film, JPEGLSLossless, imagecodecs.jpegls_encode(film)),
    "JPEG lossless": lambda film: packed(
        film, JPEGLosslessSV1, imagecodecs.jpeg8_encode(film, lossless=True, bitspersample=12)
    ),
    "JPEG 2000": lambda film: packed(
        film, JPEG2000Lossless, imagecodecs.jpeg2k_encode(film, level=0, codecformat="j2k", bitspersample=12)
    ),
    "PNG": lambda film: saved(eight(film), "PNG", compress_level=1),
    "RGB PNG": lambda film: saved(np.stack([eight(film)] * 3, 2), "PNG", compress_level=1),
    "RGBA PNG": lambda film: saved(np.stack([eight(film)] * 4, 2), "PNG", compress_level=1),
    "progressive JPEG": lambda film: saved(eight(film), "JPEG", progressive=True),
    "BMP": lambda film: saved(eight(film), "BMP"),
    "TIFF of 16 bits, white is zero": lambda film: tiff(film, photometric="miniswhite"),
    "TIFF, LZW": lambda film: tiff(film, compression="lzw"),
    "TIFF of 32 bits": lambda film: tiff(film.astype(np.uint32) << 20),
    "float TIFF": lambda film: tiff(film.astype(np.float32)),
    "WebP": lambda film: saved(eight(film), "WEBP", lossless=True, method=0, quality=0),
    "transparent WebP": lambda film: saved(np.stack([eight(film)] * 4, 2), "WEBP", quality=50, method=0),
    "DICOM, flat pixels": lambda film: twelve(film, PixelSpacing=[0.102, 0.1], **WINDOW),
    "DICOM, tall pixels": lambda film: twelve(film, PixelSpacing=[0.1, 0.102], **WINDOW),
}


@pytest.mark.parametrize("kind", [*FILMS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE)])
def test_a_large_film_takes_12_bytes_a_pixel(film, kind):
    data = (FILMS | MORE)[kind](film)
    decoder = _Decoder()
    try:
        decoder.wait_until_started()
        before = peak_bytes(decoder.process.pid)
        radiograph = decoder.decode(data, 640)
        peak = peak_bytes(decoder.process.pid) - before
    finally:
        decoder.close()
    assert np.ptp(radiograph.pixels) > 200
    logging.getLogger(__name__).info("%s: %.1f bytes a pixel", kind, peak / PX**2)
    assert peak / PX**2 < MOST_BYTES
