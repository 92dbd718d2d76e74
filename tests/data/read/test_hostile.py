"""Files that claim, hide or repeat something are refused in one line, at once and with little memory."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from dicom_file import dicom
from fuzzed import run_lengths
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from baa.data.read.decode import decode
from baa.data.read.process import _Decoder
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError

SECONDS, MOST_BYTES = 5.0, 1 << 30
MANY = 30_000

FILM = (np.add.outer(np.arange(240), np.arange(200)) * 9).astype(np.uint16)
EIGHT = (FILM >> 5).astype(np.uint8)
DEFLATED = b"1.2.840.10008.1.2.1.99"
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)


def element(group, number, vr, value, length=None):
    """An element of an explicit little-endian file, of which the length may be a lie."""
    size = len(value) if length is None else length
    if vr in ("OB", "OW", "SQ", "UN"):
        return struct.pack("<HH2sHI", group, number, vr.encode(), 0, size) + value
    return struct.pack("<HH2sH", group, number, vr.encode(), size) + value


def with_element(data, new):
    """Put an encoded element into a file at its place, instead of the one that is there."""
    place = 132
    while place + 8 <= len(data) and (there := struct.unpack_from("<HH", data, place)) < struct.unpack_from("<HH", new):
        place = following(data, place)
    return data[:place] + new + data[following(data, place) if there == struct.unpack_from("<HH", new) else place :]


def following(data, place):
    long = data[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return place + (
        12 + struct.unpack_from("<I", data, place + 8)[0] if long else 8 + struct.unpack_from("<H", data, place + 6)[0]
    )


def packed(syntax, stream, stored=FILM, **tags):
    return dicom(stored, syntax, PixelData=encapsulate([stream]), **tags)


def claiming(stream, marker, width, height):
    """A JPEG or JPEG-LS stream whose frame header has another size."""
    place = stream.index(marker) + 5
    return stream[:place] + struct.pack(">HH", height, width) + stream[place + 4 :]


def four_components(width, height):
    stream = imagecodecs.jpegls_encode(FILM)
    frame = struct.pack(">HBHHB", 20, 16, height, width, 4) + b"".join(bytes([i, 0x11, 0]) for i in range(1, 5))
    return stream[:2] + b"\xff\xf7" + frame + stream[stream.index(b"\xff\xda") :]


def jpeg_2000(width, height, left=0, top=0, tile=0):
    stream = bytearray(imagecodecs.jpeg2k_encode(FILM, level=0, codecformat="j2k"))
    stream[8:24] = struct.pack(">IIII", width, height, left, top)
    if tile:
        stream[24:32] = struct.pack(">II", tile, tile)
    return bytes(stream)


@cache
def bomb(mebibytes=300):
    """A deflated data set of one element of zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [packer.compress(element(0x7FE0, 0x10, "OW", b"", mebibytes << 20))]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(mebibytes)]
    return b"".join([*parts, packer.flush()])


def deflated(*meta, preamble=bytes(128) + b"DICM"):
    return preamble + b"".join(meta) + element(2, 0x10, "UI", DEFLATED) + bomb()


def rle(segments, content, rows, columns):
    offsets = [64 + i * len(content) for i in range(segments)]
    stream = struct.pack("<16I", segments, *offsets, *[0] * (15 - segments)) + content * segments
    return packed(RLELossless, stream, Rows=rows, Columns=columns)


def black_luts(count):
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [16, 0, 16], bytes(32)
    return [table] * count


def windows(count):
    """A film of 36 million pixels with windows that leave nothing of it."""
    centers, widths = ("\\".join([value] * count).encode() + b" " for value in ("-9000", "10"))
    film = dicom(np.full((6000, 6000), 7, np.uint16))
    return with_element(
        with_element(film, element(0x28, 0x1050, "DS", centers[:65534])), element(0x28, 0x1051, "DS", widths[:65534])
    )


def saved(levels, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, kind, **options)
    return stream.getvalue()


def exif_of_many_tags():
    """2,000 tags that mean the same megabyte."""
    tags = b"".join(struct.pack("<HHII", 40_000 + i, 7, 1 << 20, 8) for i in range(2000))
    return b"II*\0" + struct.pack("<IH", 8, 2000) + tags + bytes(4) + bytes(1 << 20)


def png_with(name, content, times=1):
    whole = saved(EIGHT, "PNG")
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return whole[:33] + chunk * times + whole[33:]


def bmp_of_runs(side):
    """A run-length encoded bitmap whose runs have one pixel each."""
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    pixels = (b"\1\5" * side + b"\0\0") * side + b"\0\1"
    sizes = (40, side, side, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(pixels), 0, 0, 1078) + struct.pack("<IiiHHIIiiII", *sizes) + palette + pixels


def tiff(*more, compression=8, content=b""):
    tags = {256: (4, 640), 257: (4, 640), 258: (3, 8), 259: (3, compression), 262: (3, 1), 277: (3, 1), 278: (4, 640)}
    entries = [(tag, kind, 1, value) for tag, (kind, value) in tags.items()] + list(more)
    end = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries += [(273, 4, 1, end), (279, 4, 1, len(content))]
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + b"".join(struct.pack("<HHII", *e) for e in sorted(entries))
        + bytes(4)
        + content
    )


def pages(count):
    """Many small pages, each of which names the next one."""
    tags = struct.pack("<HHHIIHHII", 2, 256, 4, 1, 640, 257, 4, 1, 640)
    return b"II*\0" + struct.pack("<I", 8) + b"".join(tags + struct.pack("<I", 8 + 30 * i) for i in range(1, count))


HOSTILE = {
    "JPEG-LS of four enormous components": (lambda: packed(JPEGLSLossless, four_components(65500, 65500)), "65500 x 65500"),
    "JPEG-LS with another size": (
        lambda: packed(JPEGLSLossless, claiming(imagecodecs.jpegls_encode(FILM), b"\xff\xf7", 6900, 6900)),
        "truncated or damaged",
    ),
    "JPEG 2000 of 2^31": (lambda: packed(JPEG2000Lossless, jpeg_2000(1 << 31, 1 << 31)), "2147483648 x 2147483648"),
    "JPEG 2000 that ends before it begins": (lambda: packed(JPEG2000Lossless, jpeg_2000(9, 9, 100, 100)), "has -91 x -91"),
    "JPEG 2000 of 47 million tiles": (lambda: packed(JPEG2000Lossless, jpeg_2000(6900, 6900, tile=1)), "truncated or damaged"),
    "Rows as text, Columns of 2e8": (
        lambda: with_element(
            with_element(dicom(FILM), element(0x28, 0x10, "LO", b"1 ")), element(0x28, 0x11, "UL", struct.pack("<I", 2 * 10**8))
        ),
        "200000000 x 1 pixels",
    ),
    "Rows as a word": (lambda: with_element(dicom(FILM), element(0x28, 0x10, "LO", b"many")), "Rows is not a number"),
    "Rows as a fraction": (lambda: with_element(dicom(FILM), element(0x28, 0x10, "DS", b"10.5")), "Rows is 10.5"),
    "one column with a pixel aspect": (lambda: dicom(FILM[:, :1].copy(), PixelAspectRatio=[4, 1]), "only 1 x 240 pixels"),
    "one row with a pixel aspect": (lambda: dicom(FILM[:1].copy(), PixelAspectRatio=[1, 4]), "only 200 x 1 pixels"),
    "deflated": (deflated, "becomes larger than 256 MiB"),
    "deflated, behind a long element": (lambda: deflated(element(2, 2, "OB", bytes(3000))), "becomes larger than 256 MiB"),
    "deflated, without a preamble": (lambda: deflated(preamble=b""), "becomes larger than 256 MiB"),
    "deflated, after another syntax": (lambda: deflated(element(2, 0x10, "UI", b"1.2\0")), "becomes larger than 256 MiB"),
    "deflated, a wrong length of the meta": (
        lambda: deflated(element(2, 0, "UL", struct.pack("<I", 4))),
        "becomes larger than 256 MiB",
    ),
    "many elements": (lambda: with_element(dicom(FILM), element(9, 0x1001, "CS", b"") * MANY), "more than 20,000 elements"),
    "many items": (
        lambda: with_element(dicom(FILM), element(8, 0x1140, "SQ", ITEM * 2 * 10**6)),
        "more than 100,000 items",
    ),
    "many fragments": (
        lambda: dicom(FILM, JPEGLSLossless, PixelData=ITEM * 10**6 + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)),
        "more than 100,000 items",
    ),
    "nested sequences": (
        lambda: with_element(
            dicom(FILM), (struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 2**32 - 1) + ITEM[:4] + b"\xff" * 4) * 20_000
        ),
        "cannot be parsed",
    ),
    "RLE that unpacks to more": (lambda: rle(2, b"\x81\0" * 10**6, 240, 200), "truncated or damaged"),
    "RLE of a large film without pixels": (lambda: rle(2, b"\x81\0", 6900, 6900), "truncated or damaged"),
    "RLE of many segments": (lambda: rle(15, b"\x81\0" * 500, 240, 200), "15 segments"),
    "a thousand LUTs that leave nothing": (
        lambda: dicom(np.ones((6000, 6000), np.uint16), VOILUTSequence=black_luts(1000)),
        None,
    ),
    "ten thousand windows that leave nothing": (lambda: windows(10_000), None),
    "EXIF of many tags in a PNG": (lambda: png_with(b"eXIf", exif_of_many_tags()), "2000 tags"),
    "EXIF of many tags in a WebP": (lambda: saved(EIGHT, "WEBP", exif=exif_of_many_tags()), "2000 tags"),
    "many chunks in a PNG": (lambda: png_with(b"tEXt", b"a\0b", 10**6), "more than 50,000 chunks"),
    "a bitmap of many runs": (lambda: bmp_of_runs(3000), "run-length"),
    "a TIFF tile as a signed number": (lambda: tiff((322, 9, 1, 46_000), (323, 9, 1, 46_000)), "46000 pixels wide"),
    "a TIFF of many pages": (lambda: pages(30_000), "more than 8 pages"),
    "a TIFF of many strips": (lambda: tiff((324, 4, 3 * 10**6, 8)), "3,000,000 strips or tiles"),
    "a TIFF with layers": (lambda: tiff((32997, 4, 1, 60_000), (32998, 4, 1, 60_000)), "layers"),
    "an enormous JPEG in a TIFF": (
        lambda: tiff(compression=7, content=claiming(saved(EIGHT, "JPEG"), b"\xff\xc0", 65500, 65500)),
        "damaged",
    ),
    "padding before each segment of a JPEG": (
        lambda: (lambda whole: whole[:2] + (b"\xff" * 60_000 + b"\xfe\0\2") * 1500 + whole[2:])(saved(EIGHT, "JPEG")),
        "padded",
    ),
    "bytes between the segments of a JPEG": (
        lambda: (lambda whole: whole[:2] + (b"\xff\0\xff\xf0" + bytes(65_518)) * 100 + whole[2:])(saved(EIGHT, "JPEG")),
        "damaged before its pixels",
    ),
}


@pytest.fixture(scope="module")
def decoder():
    started = _Decoder()
    started.wait_until_started()
    yield started
    started.close()


@pytest.mark.parametrize("kind", HOSTILE)
def test_it_costs_neither_time_nor_memory(decoder, kind):
    make, reason = HOSTILE[kind]
    data = make()
    before = computed(decoder)
    try:
        decoder.decode(data, 96)
        refused = ""
    except InputError as error:
        refused = str(error)
    assert computed(decoder) - before < SECONDS
    if before:  # the system tells
        assert 1024 * int(status(decoder).partition("VmHWM:")[2].split()[0]) < MOST_BYTES
    assert "\n" not in refused
    assert bool(refused) == bool(reason)
    assert (reason or "") in refused


def computed(decoder):
    file = Path(f"/proc/{decoder.process.pid}/stat")
    return sum(map(int, file.read_text().rpartition(")")[2].split()[11:13])) / 100 if file.exists() else 0.0


def status(decoder):
    return Path(f"/proc/{decoder.process.pid}/status").read_text()


STREAMS = {
    "JPEG": (JPEGBaseline8Bit, lambda film: imagecodecs.jpeg8_encode((film >> 4).astype(np.uint8))),
    "JPEG of 12 bits": (JPEGExtended12Bit, lambda film: imagecodecs.jpeg8_encode(film, bitspersample=12)),
    "JPEG lossless": (JPEGLosslessSV1, lambda film: imagecodecs.jpeg8_encode(film, lossless=True, bitspersample=12)),
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (JPEG2000Lossless, lambda film: imagecodecs.jpeg2k_encode(film, level=0, codecformat="j2k", bitspersample=12)),
    "RLE": (RLELossless, run_lengths),
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("filled", [False, True])
def test_a_truncated_stream_is_refused_though_a_decoder_would_fill_it_up(kind, filled):
    film = phantom_cases(1, seed=3)[0].image.load(240).pixels.astype(np.uint16) * 16
    syntax, encode = STREAMS[kind]
    stream = encode(film)
    assert decode(packed(syntax, stream, film), 64).pixels.any()
    for share in (0.4, 0.9):
        kept = stream[: int(share * len(stream))]
        with pytest.raises(InputError, match="truncated|Unsupported"):
            decode(packed(syntax, kept + bytes(len(stream) - len(kept)) * filled, film), 64)
