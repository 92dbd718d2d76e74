"""Files of every depth and mode decode to the same gray pixels. Anything else is refused with the reason."""

import io

import numpy as np
import pytest
from PIL import Image

from baa.data.read.decode import decode
from baa.data.read.file import ImageFile
from baa.data.read.polarity import is_negative
from baa.data.read.square import content, frame_of
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError


def encode(image, kind="PNG"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def hand():
    return phantom_cases(1, seed=3)[0].image.load(256).pixels


def test_a_16_bit_ramp_keeps_its_order_and_is_not_clipped_white():
    ramp = np.tile(np.linspace(300, 40_000, 200).astype(np.uint16), (50, 1))
    row = decode(encode(Image.fromarray(ramp)), 200).pixels[100]

    assert row[2] < 10
    assert row[-3] > 245
    assert abs(int(row[100]) - 128) < 10
    assert (np.diff(row.astype(int)) >= 0).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_every_mode_gives_the_same_radiograph(hand, mode):
    gray = Image.fromarray(hand)
    expected = decode(encode(gray), 256).pixels.astype(int)
    assert np.abs(decode(encode(gray.convert(mode)), 256).pixels - expected).mean() < 1


def test_a_jpeg_is_near_its_png(hand):
    png, jpeg = (decode(encode(Image.fromarray(hand), kind), 256).pixels.astype(int) for kind in ("PNG", "JPEG"))
    assert np.abs(png - jpeg).mean() < 4


def test_8_and_16_bit_are_the_same_radiograph(hand):
    wide = Image.fromarray(hand.astype(np.uint16) * 257)
    assert np.abs(decode(encode(wide), 256).pixels - decode(encode(Image.fromarray(hand)), 256).pixels.astype(int)).max() <= 1


def test_negatives_are_inverted_and_reported():
    for case in phantom_cases(12, seed=1):
        pixels = case.image.load(256).pixels
        assert not is_negative(pixels)
        negative = decode(encode(Image.fromarray(255 - pixels)), 256)
        assert negative.inverted
        positive = decode(encode(Image.fromarray(pixels)), 256).pixels
        assert np.corrcoef(negative.pixels.ravel(), positive.ravel())[0, 1] > 0.9


def test_the_longer_side_fills_the_square_and_the_aspect_is_kept():
    stripes = np.tile(np.array([50, 200], np.uint8).repeat(15)[:, None], 60)
    square = decode(encode(Image.fromarray(stripes)), 120).pixels

    assert (square[70:90] > 250).all()
    assert not square[:30].any()
    assert not square[90:].any()
    assert frame_of(content(stripes)) == (0, -15, 60)


def test_a_file_that_is_no_whole_image_is_refused_with_the_reason(hand):
    whole = encode(Image.fromarray(hand))
    with pytest.raises(InputError, match="not an image"):
        decode(b"id,boneage\n1,2\n", 64)
    with pytest.raises(InputError, match="truncated|broken|incomplete"):
        decode(whole[: len(whole) // 2], 64)


def test_a_tiff_of_floats_is_read_and_one_with_nans_refused(hand):
    floats = hand.astype(np.float32) / 255
    assert (
        np.abs(
            decode(encode(Image.fromarray(floats), "TIFF"), 256).pixels
            - decode(encode(Image.fromarray(hand)), 256).pixels.astype(int)
        ).max()
        <= 1
    )
    floats[0, 0] = np.nan
    with pytest.raises(InputError, match="not numbers"):
        decode(encode(Image.fromarray(floats), "TIFF"), 256)


def test_several_images_other_colors_and_too_many_pixels_are_refused(hand):
    frames = io.BytesIO()
    Image.fromarray(hand).save(frames, "PNG", save_all=True, append_images=[Image.fromarray(255 - hand)])
    with pytest.raises(InputError, match="holds 2 images"):
        decode(frames.getvalue(), 64)
    with pytest.raises(InputError, match="mode is CMYK"):
        decode(encode(Image.fromarray(hand).convert("CMYK"), "JPEG"), 64)
    with pytest.raises(InputError, match="9000 x 9000 pixels; the limit is 48 million"):
        decode(encode(Image.new("1", (9000, 9000))), 64)


@pytest.mark.parametrize("inner", [0, 20], ids=["film", "film with a margin of its own"])
@pytest.mark.parametrize(("share", "level", "noise"), [(0.25, 4, 3), (0.3, 245, 4), (0.12, 128, 6), (0.3, 255, 0)])
def test_a_noisy_margin_is_cut_to_the_pixel(share, level, noise, inner):
    film = np.asarray(phantom_cases(1, seed=3)[0].image.load(384).pixels)[:, 100:-60].astype(float)
    film[:inner] = 9
    rows, columns = (round(share * side) for side in film.shape)
    wide = np.pad(film, ((rows, rows), (columns, columns)), constant_values=np.nan)
    noisy = level + np.random.default_rng(0).normal(0, noise, wide.shape)
    stored = np.where(np.isnan(wide), noisy, wide).clip(0, 255).astype(np.uint8)
    found = np.subtract(content(stored), [columns, rows, columns, rows])
    assert np.abs(found - content(film.astype(np.uint8))).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_fingerprint_follows_the_content_and_not_the_name(tmp_path, hand, kind):
    a, b, c = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"
    a.write_bytes(encode(Image.fromarray(hand), kind))
    b.write_bytes(a.read_bytes())
    changed = hand.copy()
    changed[128, 128] ^= 255
    c.write_bytes(encode(Image.fromarray(changed), kind))

    assert ImageFile(a).fingerprint() == ImageFile(b).fingerprint() != ImageFile(c).fingerprint()
