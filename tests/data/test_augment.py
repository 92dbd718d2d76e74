"""Augmentation stays within what was asked, and draws for every image anew."""

import torch
from torch.testing import assert_close

from baa.data.augment import Augmentation

SOURCE = torch.rand(400, 1, 4, 4)


def test_nothing_asked_nothing_changed():
    film = Augmentation(degrees=0, scale=0, shift=0, contrast=0, brightness=0, flip=0)(SOURCE)
    assert_close(film.view(4), SOURCE)


def test_every_draw_is_within_its_limits_and_reaches_towards_them():
    film = Augmentation(degrees=20, scale=0.2, shift=0.0, contrast=0.3, brightness=0.1, flip=0.5)(SOURCE)
    linear = film.frame[:, :, :2]
    zoom = 1 / torch.linalg.det(linear).abs().sqrt()
    upright = linear * torch.stack([torch.linalg.det(linear).sign(), torch.ones(len(SOURCE))], dim=1)[:, None]
    degrees = torch.rad2deg(torch.atan2(upright[:, 1, 0], upright[:, 1, 1]))

    for drawn, limit, centre in ((degrees, 20, 0), (zoom, 0.2, 1), (film.contrast, 0.3, 1), (film.brightness, 0.1, 0)):
        assert (drawn - centre).abs().max() <= limit + 1e-4
        assert (drawn - centre).abs().max() > 0.9 * limit
        assert drawn.std() > limit / 3
    assert 0.4 < (torch.linalg.det(linear) < 0).float().mean() < 0.6


def test_shift_moves_the_middle_by_a_share_of_the_side():
    film = Augmentation(degrees=0, scale=0, shift=0.1, flip=0)(SOURCE)
    assert film.frame[:, :, 2].abs().max() <= 0.1 + 1e-6
    assert film.frame[:, :, 2].abs().max() > 0.09


def test_a_share_of_the_films_has_a_rectangle_of_the_asked_area_within():
    hidden = Augmentation(erase=0.25)(SOURCE).hidden
    shown = hidden[hidden.isfinite().all(dim=1)]
    area = (shown[:, 2] - shown[:, 0]) * (shown[:, 3] - shown[:, 1])

    assert 0.15 < len(shown) / len(SOURCE) < 0.35
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert area.min() >= 0.02 - 1e-6
    assert area.max() <= 0.15 + 1e-6
