"""Every view of a film is one resampling of its source, in the right place."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from baa.nets.view import Film, black_out, box_frame, carry, compose, resample


@pytest.fixture
def source():
    """Two smooth pictures [2, 1, 64, 64]."""
    return F.interpolate(torch.rand(2, 1, 8, 8), size=(64, 64), mode="bicubic").clamp(0, 1)


def turned(degrees, scale=1.0, shift=(0.0, 0.0), count=2):
    """A frame about the middle, worked out by hand."""
    cos, sin = math.cos(math.radians(degrees)) * scale, math.sin(math.radians(degrees)) * scale
    linear = torch.tensor([[cos, -sin], [sin, cos]])
    middle = torch.tensor([0.5, 0.5])
    offset = middle - linear @ middle + torch.tensor(shift)
    return torch.cat([linear, offset[:, None]], dim=1).expand(count, 2, 3)


def test_the_plain_film_at_its_own_size_is_the_source(source):
    assert_close(Film.plain(source).view(64), source)


def test_a_view_at_half_size_averages_and_does_not_skip():
    stripes = (torch.arange(64) % 2).float().expand(64, 64)[None, None]
    assert_close(Film.plain(stripes).view(32), torch.full((1, 1, 32, 32), 0.5))


def test_a_crop_at_the_sources_resolution_is_a_slice(source):
    boxes = torch.tensor([[0.25, 0.5, 0.75, 1.0]]).expand(2, 4)
    assert_close(Film.plain(source).crop(boxes, 32, 0.5), source[:, :, 32:, 16:48])


def test_a_quarter_turn_is_a_quarter_turn(source):
    assert_close(resample(source, turned(90), 64), torch.rot90(source, 1, (2, 3)), atol=1e-5, rtol=0)


def test_a_crop_of_a_turned_film_is_the_crop_of_the_turned_view(source):
    film = Film.plain(source)._replace(frame=turned(13, 0.9, (0.03, -0.02)))
    boxes = torch.tensor([[0.25, 0.25, 0.75, 0.75]]).expand(2, 4)
    assert_close(film.crop(boxes, 32, 0.5), film.view(64)[:, :, 16:48, 16:48], atol=1e-4, rtol=0)


def test_the_exposure_of_a_film_is_that_of_its_views(source):
    film = Film.plain(source)._replace(contrast=torch.tensor([0.5, 1.0]), brightness=torch.tensor([0.1, 0.0]))
    assert_close(film.view(64), torch.stack([source[0] * 0.5 + 0.1, source[1]]))


def test_what_is_hidden_is_black_in_the_view_and_nothing_else_is(source):
    film = Film.plain(source + 1)._replace(hidden=torch.tensor([[0.0, 0.5, 0.5, 1.0], [torch.nan] * 4]))
    assert film.view(64)[0, :, 32:, :32].amax() == 0
    assert (film.view(64) == 0).sum() == 32 * 32


def test_boxes_move_with_the_film(source):
    """The same tissue is in a box of the source and in the box it is carried to: a place's round trip is exact."""
    frame = compose(turned(20, 1.1, (0.05, 0.0)), torch.tensor([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).expand(2, 2, 3))
    boxes = torch.tensor([[0.3, 0.4, 0.5, 0.6], [0.1, 0.6, 0.4, 0.9]])
    carried = carry(boxes, frame)
    middle = torch.cat([(carried[:, :2] + carried[:, 2:]) / 2, torch.ones(2, 1)], dim=1)

    assert_close((frame @ middle[:, :, None])[:, :, 0], (boxes[:, :2] + boxes[:, 2:]) / 2)
    assert_close((carried[:, 2:] - carried[:, :2]) * 1.1, boxes[:, 2:] - boxes[:, :2])


def test_crops_are_differentiable_in_the_boxes(source):
    film = Film.plain(source.double())
    boxes = torch.tensor(
        [[0.2137, 0.3311, 0.5223, 0.6419], [0.1171, 0.2039, 0.5717, 0.6653]], dtype=torch.double, requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda b: film.crop(b, 8, 0.5), boxes, eps=1e-8, atol=1e-4)


def test_a_box_frame_leads_corners_to_corners():
    frame = box_frame(torch.tensor([[0.1, 0.2, 0.4, 0.8]]))
    corners = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]).T[None]
    assert_close(frame @ corners, torch.tensor([[[0.1, 0.4], [0.2, 0.8]]]))


def test_black_out_blackens_the_box_and_nothing_else():
    view = black_out(torch.ones(1, 1, 10, 20), torch.tensor([[0.5, 0.2, 0.75, 0.4]]))

    expected = torch.ones(10, 20)
    expected[2:4, 10:15] = 0
    assert_close(view[0, 0], expected)


def test_what_is_hidden_is_black_in_a_crop_too(source):
    film = Film.plain(source + 1)._replace(hidden=torch.tensor([[0.0, 0.5, 0.5, 1.0], [torch.nan] * 4]))
    crops = film.crop(torch.tensor([[0.25, 0.25, 0.75, 0.75]]).expand(2, 4), 32, 0.5)

    assert (crops[0, 0, 16:, :16] == 0).all()
    assert (crops[0, 0, :16] > 0).all()
    assert (crops[0, 0, :, 16:] > 0).all()
    assert (crops[1] > 0).all()
