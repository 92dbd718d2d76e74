"""Augmentation stays within its ranges and draws for each image anew; kornia's own augmentations make the same pictures."""

import pytest
import torch
from kornia.augmentation import RandomAffine, RandomBrightness, RandomContrast, RandomHorizontalFlip
from torch.nn import functional as F
from torch.testing import assert_close

from baa.data.augment import Augmentation
from baa.nets.view import View

SIDE = 300
SOURCE = torch.rand(1, 1, SIDE, SIDE).expand(400, -1, -1, -1)
NOTHING = {"degrees": 0, "scale": 0, "shift": 0, "contrast": 0, "brightness": 0, "flip": 0}


@pytest.mark.parametrize("side", [4, 49, 640])
def test_without_any_range_the_view_is_exactly_the_source(side):
    source = torch.rand(2, 1, side, side)
    view, plain = Augmentation(**NOTHING)(source), View.of(source)
    for found, expected in zip(view[:4], plain[:4], strict=True):
        assert torch.equal(found, expected)
    assert view.erased is None


def test_every_draw_is_within_its_limits_and_reaches_towards_them():
    view = Augmentation(degrees=20, scale=0.2, shift=0.0, contrast=0.3, brightness=0.1, flip=0.5)(SOURCE)
    linear = view.affine[:, :2, :2]
    zoom = 1 / torch.linalg.det(linear).abs().sqrt()
    upright = linear * torch.stack([torch.linalg.det(linear).sign(), torch.ones(len(SOURCE))], dim=1)[:, None]
    degrees = torch.rad2deg(torch.atan2(upright[:, 1, 0], upright[:, 1, 1]))

    for drawn, limit, center in ((degrees, 20, 0), (zoom, 0.2, 1), (view.contrast, 0.3, 1), (view.brightness, 0.1, 0)):
        assert (drawn - center).abs().max() <= limit + 1e-4
        assert (drawn - center).abs().max() > 0.9 * limit
        assert drawn.std() > limit / 3
    assert 0.4 < (torch.linalg.det(linear) < 0).float().mean() < 0.6


def test_shift_moves_the_middle_by_a_share_of_the_side():
    view = Augmentation(degrees=0, scale=0, shift=0.1, flip=0)(SOURCE)
    for axis in (0, 1):
        assert view.affine[:, axis, 2].abs().max() <= 0.1 + 1e-6
        assert view.affine[:, axis, 2].abs().max() > 0.09


def test_a_share_of_the_views_has_a_rectangle_of_the_given_area_within():
    erased = Augmentation(random_erasing_p=0.25)(SOURCE).erased
    drawn = erased[erased.isfinite().all(dim=1)]
    width, height = (drawn[:, 2:] - drawn[:, :2]).T
    half_a_pixel = 0.5 / SIDE

    assert 0.15 < len(drawn) / len(SOURCE) < 0.35
    assert erased.isnan().all(dim=1).sum() == len(SOURCE) - len(drawn)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert ((width + half_a_pixel) * (height + half_a_pixel)).min() >= 0.02
    assert ((width - half_a_pixel) * (height - half_a_pixel)).max() <= 0.15
    assert ((height + half_a_pixel) / (width - half_a_pixel)).min() >= 0.5
    assert ((height - half_a_pixel) / (width + half_a_pixel)).max() <= 2


def test_a_seed_repeats_the_draws():
    augment, drawn = Augmentation(random_erasing_p=0.5), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(augment(SOURCE[:8]))
    for first, again, other in zip(*(view[1:] for view in drawn), strict=True):
        assert torch.equal(first.nan_to_num(), again.nan_to_num())
        assert not torch.equal(first.nan_to_num(), other.nan_to_num())


def test_a_view_shows_what_kornia_makes_of_the_images_in_several_resamplings():
    source = F.interpolate(torch.rand(16, 1, 8, 8), size=(64, 64), mode="bicubic").clamp(0.1, 0.9)
    torch.manual_seed(3)
    view = Augmentation(degrees=15, scale=0.1, shift=0.05, contrast=0.1, brightness=0.05, flip=0.5)(source)
    torch.manual_seed(3)
    expected = source
    for augmentation in (
        RandomAffine(15.0, (0.05, 0.05), (0.9, 1.1), p=1.0, align_corners=True),
        RandomHorizontalFlip(p=0.5),
        RandomContrast((0.9, 1.1)),
        RandomBrightness((0.95, 1.05)),
    ):
        expected = augmentation(expected)

    assert 0 < (torch.linalg.det(view.affine) < 0).sum() < 16
    assert_close(view.render(64), expected, atol=1e-4, rtol=0)
