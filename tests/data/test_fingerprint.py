"""A radiograph is recognized by its pixels, in another file, format and size; another radiograph is not."""

import io

import numpy as np
import pytest
from PIL import Image

from baa.data.fingerprint import BYTES, fingerprint, recognized
from baa.data.sources.phantom import phantom_cases


@pytest.fixture(scope="module")
def hands():
    return [case.image.load(256).pixels for case in phantom_cases(40, seed=3)]


def as_jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file))


def smaller(pixels):
    return np.asarray(Image.fromarray(pixels).resize((150, 150), Image.Resampling.LANCZOS))


def brighter(pixels):
    return np.minimum(pixels.astype(int) + 8, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [lambda pixels: pixels, as_jpeg, smaller, brighter])
def test_the_same_radiograph_is_recognized_among_others(hands, change):
    prints = [fingerprint(pixels) for pixels in hands]
    changed = [fingerprint(change(pixels)) for pixels in hands]

    assert recognized(changed, prints).all()
    assert all(recognized([one], [own]).all() for one, own in zip(changed, prints, strict=True))


def test_no_other_radiograph_is_recognized(hands):
    prints = [fingerprint(pixels) for pixels in hands]
    for i, own in enumerate(prints):
        assert not recognized([own], prints[:i] + prints[i + 1 :]).any()


def test_none_is_recognized_among_none(hands):
    assert recognized([fingerprint(hands[0])], []).tolist() == [False]
    assert recognized([], [fingerprint(hands[0])]).tolist() == []
    assert len(fingerprint(hands[0])) == BYTES
