"""A hand that lies on its side is turned, and its boxes are told where they are in the file."""

import pytest
import torch

from baa.nets.recogniser import Recogniser, recognise, turn, turn_back
from baa.nets.regions import RegionCropper


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_box_is_turned_back_to_the_pixels_it_was_found_in(quarters):
    source = torch.zeros(1, 1, 20, 20)
    source[..., 2:6, 8:15] = 1
    rows, columns = turn(source, quarters)[0, 0].nonzero().T
    found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])[None] / 20
    assert turn_back(found, quarters)[0].tolist() == pytest.approx([8 / 20, 2 / 20, 15 / 20, 6 / 20])


class TopIsBright(Recogniser):
    """Strange unless the upper third of a feature map outshines the lower one."""

    def forward(self, features):
        shades = features.float().mean(dim=1)
        return shades[:, -1].mean(dim=1) - shades[:, 0].mean(dim=1) + 1e-3


class LeftIsBright(torch.nn.Module):
    """Says that a hand lies mirrored if its left half outshines the right one."""

    def forward(self, source):
        return (source[..., :48] - source[..., 48:]).mean(dim=(1, 2, 3))


def test_only_what_is_known_in_another_turn_is_turned(locator):
    ramp = torch.linspace(1, 0, 96)[:, None].repeat(1, 96)[None, None]
    ramp[..., 40:56, 24:40] = 1  # far from the rim, by which a turn is known
    source = torch.cat([turn(ramp, quarters) for quarters in (0, 1, 2, 3)] + [torch.full_like(ramp, 0.5)])
    cropper = RegionCropper(locator, px=(32, 32))
    cropper.features = lambda view: torch.nn.functional.adaptive_avg_pool2d(view, 6).repeat(1, 512, 1, 1)
    given = source.clone()
    recogniser = TopIsBright(512)
    recogniser.laterality = LeftIsBright()
    read = recognise(cropper, recogniser, source)

    assert read.quarters.tolist() == [0, 3, 2, 1, 0]
    assert (read.strangeness > 0).tolist() == [False, False, False, False, True]
    assert (read.mirrored > 0).tolist() == [True, True, True, True, False]
    assert torch.equal(source, given)
    for i in range(4):
        assert torch.allclose(read.film.source[i], ramp[0])
    boxes, heat, _ = cropper.locate(read.film)
    assert torch.allclose(read.regions.boxes, boxes, atol=1e-5)
    as_given = read.regions_as_given()
    assert torch.allclose(turn(as_given.heat[1:2], 3), heat[:1], atol=1e-5)
    assert torch.allclose(turn_back(as_given.boxes[1], 1), boxes[0], atol=1e-5)
