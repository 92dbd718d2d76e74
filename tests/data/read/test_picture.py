"""PNG, JPEG, TIFF, WebP and BMP files give the same radiograph; structures that only an attack has are refused."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from baa.data.read.decode import decode
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError


@pytest.fixture(scope="module")
def hand():
    return phantom_cases(1, seed=3)[0].image.load(256).pixels[:, 30:-30]


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(levels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, levels, **options)
    return stream.getvalue()


def difference(data, hand, px=256):
    return np.abs(decode(data, px).pixels.astype(int) - decode(encode(Image.fromarray(hand)), px).pixels).mean()


KINDS = {
    "WebP": lambda hand: encode(Image.fromarray(hand), "WEBP", lossless=True),
    "BMP": lambda hand: encode(Image.fromarray(hand), "BMP"),
    "tiled TIFF": lambda hand: tiff(hand, tile=(64, 64)),
    "TIFF of 16 bits": lambda hand: tiff(hand.astype(np.uint16) * 100),
    "signed TIFF of 16 bits": lambda hand: tiff(hand.astype(np.int16) * 100 - 9000),
    "signed TIFF of 8 bits": lambda hand: tiff((hand ^ 0x80).view(np.int8)),
    "TIFF of 32 bits": lambda hand: tiff(hand.astype(np.uint32) << 24),
    "signed TIFF of 32 bits": lambda hand: tiff((hand.astype(np.int32) - 128) << 24),
    "transparent WebP": lambda hand: encode(
        Image.fromarray(np.dstack([np.full_like(hand, 255)] * 3 + [hand])), "WEBP", lossless=True, exact=True
    ),
    "big TIFF": lambda hand: tiff(hand, bigtiff=True),
    "TIFF, white is zero": lambda hand: tiff(255 - hand, photometric="miniswhite"),
    "TIFF of 16 bits, white is zero": lambda hand: tiff(25500 - hand.astype(np.uint16) * 100, photometric="miniswhite"),
    "TIFF of floats, white is zero": lambda hand: tiff(1 - hand.astype(np.float32) / 255, photometric="miniswhite"),
    "compressed TIFF of 16 bits, white is zero": lambda hand: tiff(
        25500 - hand.astype(np.uint16) * 100, photometric="miniswhite", compression="zlib"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_radiograph(hand, kind):
    assert difference(KINDS[kind](hand), hand) < 1


@pytest.mark.parametrize("first", [True, False])
def test_a_thumbnail_is_left_out(hand, first):
    pages = [Image.fromarray(hand[::4, ::4]), Image.fromarray(hand)]
    one, other = pages if first else pages[::-1]
    assert difference(encode(one, "TIFF", save_all=True, append_images=[other]), hand) < 1


def test_two_films_in_one_tiff_are_refused(hand):
    data = encode(Image.fromarray(hand), "TIFF", save_all=True, append_images=[Image.fromarray(hand)])
    with pytest.raises(InputError, match="holds 2 images"):
        decode(data, 64)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_the_orientation_of_exif_is_obeyed(hand, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 98} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {})
    undo = {
        3: Image.Transpose.ROTATE_180,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(hand).transpose(undo[orientation])
    data = encode(stored, kind, **options)
    assert difference(data, hand) < 3
    read = decode(data, 64)
    assert (read.width, read.height) == hand.shape[::-1]


def test_8_and_16_bits_are_the_same_radiograph_though_the_contrast_is_low(hand):
    low = 100 + hand // 10
    deep = low.astype(np.uint16) * 257
    big = np.kron(low, np.ones((4, 4), np.uint8))
    for px in (64, 150):
        assert difference(encode(Image.fromarray(deep)), low, px) < 0.5
        assert difference(encode(Image.fromarray(big.astype(np.uint16) * 257)), big, px) < 0.5


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_margin_changes_neither_levels_nor_frame(hand, level):
    framed = np.full((hand.shape[0] + 150, hand.shape[1] + 190), level, np.uint8)
    framed[100:-50, 60:-130] = hand
    read = decode(encode(Image.fromarray(framed), "TIFF"), 256)
    assert difference(encode(Image.fromarray(framed), "TIFF"), hand) < 2
    assert read.frame == (60 - (256 - 196) / 2, 100, 256)
    assert read.frame.boxes_in_image(np.array([30 / 256, 0, 226 / 256, 1])).tolist() == [60, 100, 256, 356]
    assert (read.width, read.height) == (386, 406)


def test_an_image_of_one_level_is_not_cut():
    assert decode(encode(Image.new("L", (80, 100), 7)), 64).frame == (-10, 0, 100)


def test_pictures_that_are_small_or_square_are_noted(hand):
    assert decode(encode(Image.fromarray(hand)), 256).notes == ()
    [small] = decode(encode(Image.fromarray(hand)), 384).notes
    assert "only 196 x 256 pixels" in small
    for size in ((300, 300), (600, 610)):
        [square] = decode(encode(Image.fromarray(hand).resize(size)), 256).notes
        assert "square or nearly so" in square
    padded = np.pad(hand, ((0, 0), (30, 30)))
    assert decode(encode(Image.fromarray(padded)), 256).notes == ()


def ifd(tags, at=8):
    """A TIFF with one page of tags (tag, kind, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", at) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


HOSTILE = {
    "2,000 tags of a megabyte": (
        ifd([(256, 3, 1, 64), (257, 3, 1, 64)] + [(40000 + i, 7, 1 << 20, 8) for i in range(2000)]),
        "2002 tags",
    ),
    "tags of 64 MiB": (ifd([(256, 3, 1, 64), (257, 3, 1, 64), (700, 7, 64 << 20, 8)]), "tags of 64 MiB"),
    "a tile of 46,000": (
        ifd([(256, 3, 1, 640), (257, 3, 1, 640), (322, 3, 1, 46000), (323, 3, 1, 46000)]),
        "tiles 46000 pixels wide",
    ),
    "pages in a circle": (ifd([(256, 3, 1, 64), (257, 3, 1, 64)])[:-4] + struct.pack("<I", 8), "refer to each other"),
    "a page beyond the end": (b"II*\0" + struct.pack("<I", 1 << 30), "truncated or damaged"),
    "no page": (b"II*\0" + struct.pack("<I", 0), "holds no image"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_tiff_is_refused_before_it_is_decoded(kind, monkeypatch):
    data, reason = HOSTILE[kind]
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(InputError, match=reason):
        decode(data, 64)


def test_a_tiff_of_unusual_pixels_is_refused_with_a_mend(hand):
    with pytest.raises(InputError, match="unusual pixels; store it as gray of 8 or 16 bits"):
        decode(tiff(hand.astype(np.float64)), 64)


def test_hostile_exif_in_a_jpeg_is_refused(hand):
    bomb = b"Exif\0\0" + ifd([(40000 + i, 7, 1 << 20, 8) for i in range(2000)])
    data = encode(Image.fromarray(hand), "JPEG", exif=bomb)
    with pytest.raises(InputError, match="EXIF data of the image are refused: the TIFF has 2000 tags"):
        decode(data, 64)


def test_a_jpeg_of_many_scans_or_much_padding_is_refused(hand, monkeypatch):
    data = encode(Image.fromarray(hand), "JPEG", progressive=True)
    assert difference(data, hand) < 4
    scan = data.index(b"\xff\xda")
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(InputError, match="has 5.. scans; the limit is 100"):
        decode(data[:scan] + data[scan : scan + 10] * 500 + data[scan:], 64)
    with pytest.raises(InputError, match="padded"):
        decode(data[:2] + b"\xff" * (1 << 20) + data[2:], 64)


def test_a_jpeg_that_says_it_is_enormous_is_refused_before_it_is_decoded(hand, monkeypatch):
    data = bytearray(encode(Image.fromarray(hand), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 65500, 65500)
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(InputError, match="65500 x 65500 pixels; the limit is 48 million"):
        decode(bytes(data), 64)
