"""A hand that lies on its side or mirrored is laid as most lie, and its boxes are told where they are in the file."""

import pytest
import torch

from baa.nets.cropper import RegionCropper
from baa.nets.input_check import Recogniser, recognise
from baa.nets.laterality import SURE
from baa.nets.pose import turn


class TopIsBright(Recogniser):
    """Strange unless the upper third of a feature map outshines the lower one."""

    def forward(self, features):
        shades = features.float().mean(dim=1)
        return shades[:, -1].mean(dim=1) - shades[:, 0].mean(dim=1) + 1e-3


class LeftIsBright(torch.nn.Module):
    """Sure that a hand lies mirrored if its left half outshines the right one."""

    def forward(self, source):
        return 1000 * (source[..., :48] - source[..., 48:]).mean(dim=(1, 2, 3))


class RightIsBright(LeftIsBright):
    """Sure of the opposite."""

    def forward(self, source):
        return -super().forward(source)


def ramp_with_a_spot():
    """Darker downwards, [1, 1, 96, 96]; the spot is far from the rim, by which a turn is known."""
    ramp = torch.linspace(0.2, 0.1, 96)[:, None].repeat(1, 96)[None, None]
    ramp[..., 32:48, 64:80] = 1
    return ramp


def cropper_of_shades(locator):
    cropper = RegionCropper(locator, px=(32, 32))
    cropper.features = lambda view: torch.nn.functional.adaptive_avg_pool2d(view, 6).repeat(1, 512, 1, 1)
    return cropper


def test_only_what_is_known_in_another_pose_is_laid_in_it(locator):
    ramp = ramp_with_a_spot()
    lain = [turn(ramp, quarters) for quarters in (0, 1, 2, 3)]
    lain += [turn(ramp.flip(3), quarters) for quarters in (0, 1)]
    source = torch.cat([*lain, torch.full_like(ramp, 0.5)])
    cropper = cropper_of_shades(locator)
    given = source.clone()
    recogniser = TopIsBright(512)
    recogniser.laterality = LeftIsBright()
    read = recognise(cropper, recogniser, source)

    assert read.pose.quarters.tolist() == [0, 3, 2, 1, 0, 3, 0]
    assert read.pose.mirrored.tolist() == [False, False, False, False, True, True, False]
    assert (read.strangeness > 0).tolist() == [False] * 6 + [True]
    assert torch.equal(source, given)
    for i in range(6):
        assert torch.allclose(read.film.source[i], ramp[0])
    boxes, heat, _ = cropper.locate(read.film)
    assert torch.allclose(read.regions.boxes, boxes, atol=1e-5)
    assert not read.regions.fallback[:6, 0].any()
    as_given = read.regions_as_given()
    x0, y0, x1, y1 = boxes[0, 0].tolist()
    expected = [
        [x0, y0, x1, y1],
        [y0, 1 - x1, y1, 1 - x0],
        [1 - x1, 1 - y1, 1 - x0, 1 - y0],
        [1 - y1, x0, 1 - y0, x1],
        [1 - x1, y0, 1 - x0, y1],
        [y0, x0, y1, x1],
    ]
    assert as_given.boxes[:6, 0].tolist() == [pytest.approx(box, abs=1e-4) for box in expected]
    assert len({tuple(round(corner, 2) for corner in box) for box in expected}) == 6
    assert torch.allclose(turn(as_given.heat[1:2], 3), heat[:1], atol=1e-5)
    assert torch.allclose(as_given.heat[4:5].flip(3), heat[:1], atol=1e-5)
    assert torch.allclose(turn(as_given.heat[5:6], 3).flip(3), heat[:1], atol=1e-5)


class StrangeTurnedOver(TopIsBright):
    """Strange as well where the right half of a feature map does not outshine the left one: in mirror images."""

    def forward(self, features):
        shades = features.float().mean(dim=(1, 2))
        return super().forward(features).maximum(shades[:, :3].mean(dim=1) - shades[:, 3:].mean(dim=1) + 1e-3)


def test_what_is_not_recognised_turned_over_is_read_as_it_lies(locator):
    ramp = ramp_with_a_spot()
    recogniser = StrangeTurnedOver(512)
    recogniser.laterality = RightIsBright()
    read = recognise(cropper_of_shades(locator), recogniser, ramp)

    assert read.laterality > SURE
    assert not read.pose.mirrored
    assert read.strangeness <= 0
    assert torch.equal(read.film.source, ramp)


def test_what_is_not_recognised_as_it_lies_is_not_turned_over(locator):
    recogniser = StrangeTurnedOver(512)
    recogniser.laterality = LeftIsBright()
    read = recognise(cropper_of_shades(locator), recogniser, ramp_with_a_spot().flip(3))

    assert read.strangeness > 0
    assert read.laterality > SURE
    assert not read.pose.mirrored
