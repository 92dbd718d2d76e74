"""A rotated or mirrored hand is turned upright; a radiograph that no orientation makes recognizable stays as it is."""

import pytest
import torch

from baa.nets.input_check import InputCheck, orient
from baa.nets.laterality import SURE


class TopIsBright(InputCheck):
    """Recognize an image if the top row of its feature map is brighter than the bottom row."""

    def forward(self, features):
        shades = features.float().mean(dim=1)
        return shades[:, -1].mean(dim=1) - shades[:, 0].mean(dim=1) + 1e-3


class LeftIsBright(torch.nn.Module):
    """Detect a mirrored hand if its left half is brighter than the right half."""

    def forward(self, source):
        return 1000 * (source[..., :48] - source[..., 48:]).mean(dim=(1, 2, 3))


class RightIsBright(LeftIsBright):
    """The opposite."""

    def forward(self, source):
        return -super().forward(source)


def ramp_with_a_spot():
    """Darker downwards, [1, 1, 96, 96]; a spot away from the border identifies the orientation."""
    ramp = torch.linspace(0.2, 0.1, 96)[:, None].repeat(1, 96)[None, None]
    ramp[..., 32:48, 64:80] = 1
    return ramp


def features(view):
    """Means of the cells of a 6 x 6 grid."""
    return torch.nn.functional.adaptive_avg_pool2d(view, 6).repeat(1, 512, 1, 1)


def test_a_radiograph_is_turned_only_if_that_makes_it_recognized():
    ramp = ramp_with_a_spot()
    turned = [torch.rot90(ramp, quarters, dims=(2, 3)) for quarters in (0, 1, 2, 3)]
    turned += [torch.rot90(ramp.flip(3), quarters, dims=(2, 3)) for quarters in (0, 1)]
    source = torch.cat([*turned, torch.full_like(ramp, 0.5)])
    given = source.clone()
    input_check = TopIsBright(512)
    input_check.laterality = LeftIsBright()
    found = orient(source, 48, features, input_check)

    assert found.quarters.tolist() == [0, 3, 2, 1, 0, 3, 0]
    assert found.mirrored.tolist() == [False, False, False, False, True, True, False]
    assert (found.ood_score > 0).tolist() == [False] * 6 + [True]
    assert torch.equal(source, given)
    assert found.view.source is source
    assert torch.allclose(found.view.render(96)[:6], ramp.expand(6, -1, -1, -1), atol=1e-5)
    assert torch.equal(found.locator_view, found.view.render(48))
    assert torch.equal(found.features, features(found.locator_view))
    assert torch.equal(found.ood_score, input_check(found.features))
    assert (found.laterality[[4, 5]] > SURE).all()
    assert (found.laterality[:4] < -SURE).all()
    box = torch.tensor([64 / 96, 32 / 96, 80 / 96, 48 / 96])
    corners = found.view.boxes_in_source(box.expand(7, 1, 4))[:6, 0] * 96
    for picture, (x0, y0, x1, y1) in zip(source[:6], corners.round().int(), strict=True):
        spot = torch.zeros(96, 96)
        spot[y0:y1, x0:x1] = 1
        assert torch.equal(picture[0] == 1, spot == 1)


def test_the_features_are_computed_once_if_all_radiographs_are_recognized():
    batches = []

    def counted(view):
        batches.append(len(view))
        return features(view)

    input_check = TopIsBright(512)
    input_check.laterality = RightIsBright()
    found = orient(ramp_with_a_spot().flip(3).repeat(2, 1, 1, 1), 48, counted, input_check)
    assert batches == [2]
    assert not found.mirrored.any()


class NotMirrored(TopIsBright):
    """Also reject an image whose right half is not brighter than the left half: a mirror image."""

    def forward(self, features):
        shades = features.float().mean(dim=(1, 2))
        return super().forward(features).maximum(shades[:, :3].mean(dim=1) - shades[:, 3:].mean(dim=1) + 1e-3)


def test_a_radiograph_whose_mirror_image_is_not_recognized_is_not_mirrored():
    ramp = ramp_with_a_spot()
    input_check = NotMirrored(512)
    input_check.laterality = RightIsBright()
    found = orient(ramp, 48, features, input_check)

    assert found.laterality > SURE
    assert not found.mirrored
    assert found.ood_score <= 0
    assert torch.equal(found.view.affine, torch.eye(3)[None])


def test_a_radiograph_that_is_not_recognized_as_given_is_not_mirrored():
    input_check = NotMirrored(512)
    input_check.laterality = LeftIsBright()
    found = orient(ramp_with_a_spot().flip(3), 48, features, input_check)

    assert found.ood_score > 0
    assert found.laterality > SURE
    assert not found.mirrored


def test_the_weights_apply_to_cells_of_a_grid_on_the_feature_map():
    input_check = InputCheck(2)
    input_check.weight[1, 2, 0] = 3
    input_check.bias[:] = -1
    channels = torch.zeros(1, 2, 9, 9)
    channels[0, 1, 6:, :3] = 0.5
    assert input_check(channels).item() == pytest.approx(0.5)
