"""Stretched hands and wide margins are estimated from the picture."""

import math

import numpy as np
import pytest
from PIL import Image

from baa.data.proportions import estimate_proportions, proportion_notes
from baa.data.sources.phantom import phantom_cases


@pytest.fixture(scope="module")
def films():
    """Phantoms without the black beside them, uint8 [H, W]."""
    return [case.image.load(384).pixels[:, 48:-48] for case in phantom_cases(6, seed=2)]


def resized(film, across, down):
    size = round(film.shape[1] * across), round(film.shape[0] * down)
    return np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BILINEAR))


@pytest.mark.parametrize(("across", "down"), [(1.4, 1.0), (1.0, 1.3), (0.75, 1.0)])
def test_a_stretched_hand_is_estimated_as_such(films, across, down):
    change = [estimate_proportions(resized(film, across, down)).stretch - estimate_proportions(film).stretch for film in films]
    assert np.median(change) == pytest.approx(math.log(across / down), abs=0.12)


def test_a_margin_makes_the_hand_small(films):
    for film in films:
        wide = np.pad(film, [(round(0.4 * side),) * 2 for side in film.shape], constant_values=20)
        assert estimate_proportions(wide).size < estimate_proportions(film).size - 0.25


def test_the_same_picture_at_another_size_has_the_same_proportions(films):
    for film in films[:2]:
        assert estimate_proportions(resized(film, 2, 2)) == pytest.approx(estimate_proportions(film), abs=0.05)


def test_the_notes_name_factor_and_mend(films, monkeypatch):
    import baa.data.proportions as proportions

    monkeypatch.setattr(proportions, "estimate_proportions", lambda levels: proportions.Proportions(-0.5, -0.6))
    stretched, small = proportion_notes(films[0])
    assert stretched.startswith("the hand looks 1.6 times too tall: ")
    assert small.startswith("the hand fills 55% of what it usually does: cut the margin")
    monkeypatch.setattr(proportions, "estimate_proportions", lambda levels: proportions.Proportions(0.1, 0.1))
    assert proportion_notes(films[0]) == []
