"""Two looks to two crops, with a real small locator."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import box_iou

from baa.nets.boxes import moments, peak
from baa.nets.cropper import CARPAL, HAND, RegionCropper
from baa.nets.view import Film, black_out


@pytest.mark.parametrize("rule", ["peak", "moments"])
def test_second_region_is_found_with_the_first_blacked_out(locator, phantom_batch, rule):
    cropper = RegionCropper(locator, px=(64, 64), reading="absolute", rule=rule)
    film = Film.plain(phantom_batch)
    regions = cropper(film)
    masked = black_out(film.view(96), regions.boxes[:, CARPAL])

    assert_close(regions.heat[:, HAND], cropper.read(cropper.features(masked)))
    assert (box_iou(regions.boxes[:, CARPAL], regions.boxes[:, HAND]).diagonal() < 1).all()
    assert [crop.shape for crop in regions.crops] == [(4, 1, 64, 64)] * 2


def test_a_locator_that_sees_nothing_gives_the_typical_boxes_and_says_so(locator, phantom_batch):
    torch.nn.init.zeros_(locator.head.age.layers[-1].weight)
    regions = RegionCropper(locator, px=(32, 32), reading="absolute", typical=(0.3, 0.6))(Film.plain(phantom_batch))

    assert regions.fallback.all()
    assert_close(regions.boxes[0], torch.tensor([[0.35, 0.35, 0.65, 0.65], [0.2, 0.2, 0.8, 0.8]]))


def test_looking_leaves_the_locator_as_it_was(locator, phantom_batch):
    before = {name: tensor.clone() for name, tensor in locator.state_dict().items()}
    cropper = RegionCropper(locator, px=(32, 32)).train()
    with torch.inference_mode():
        cropper(Film.plain(phantom_batch))

    assert not cropper.training
    assert not locator.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in locator.state_dict().items())
    assert all(parameter.grad is None for parameter in locator.parameters())


def test_the_images_of_a_batch_do_not_mix(locator, phantom_batch):
    cropper = RegionCropper(locator, px=(32, 32), reading="absolute")
    alone = torch.cat([cropper(Film.plain(image[None])).boxes for image in phantom_batch])

    assert_close(cropper(Film.plain(phantom_batch)).boxes, alone, atol=1e-4, rtol=0)


def test_remembered_boxes_are_the_live_ones_on_the_radiograph_as_it_is(locator, phantom_batch):
    cropper = RegionCropper(locator, px=(64, 64), reading="absolute", rule="moments")
    film = Film.plain(phantom_batch)
    live, recalled = cropper(film), cropper.recall(film, cropper.locate(film)[0])

    assert_close(recalled.boxes, live.boxes)
    assert_close(recalled.crops, live.crops)


def test_a_remembered_crop_of_the_mirrored_hand_is_the_mirrored_crop(locator, phantom_batch):
    cropper = RegionCropper(locator, px=(64, 64), reading="absolute", rule="moments")
    film = Film.plain(phantom_batch)
    mirrored = film._replace(frame=torch.tensor([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).expand(4, 2, 3))
    boxes = cropper.locate(film)[0]

    for crop, other in zip(cropper.recall(film, boxes).crops, cropper.recall(mirrored, boxes).crops, strict=True):
        assert_close(other, crop.flip(-1), atol=1e-5, rtol=0)


def test_looking_in_bfloat16_sees_nearly_the_same(locator, phantom_batch):
    view = Film.plain(phantom_batch).view(locator.px)
    croppers = [RegionCropper(locator, reading="absolute", half_precision=half) for half in (False, True)]
    full, half = (cropper.read(cropper.features(view)) for cropper in croppers)

    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.05 * full.max()


def test_what_is_expected_from_the_look_moves_with_the_hand(locator):
    cropper = RegionCropper(locator, centres=((0.0, 0.25), (0.0, 0.0)), centres_from="look", spreads=(0.05, 0.1), floor=0.5)
    heat = torch.zeros(2, 8, 8)
    heat[0, 2, 3] = heat[1, 3, 4] = 1.0  # fingers; the second film's an eighth further right and down
    origin = moments(heat)[0]
    assert_close(origin, torch.tensor([[3.5, 2.5], [4.5, 3.5]]) / 8)
    for region, below in ((CARPAL, 0.25), (HAND, 0.0)):
        found = peak(cropper.expect(heat, region, origin))
        assert_close(found, origin + torch.tensor([0.0, below]), atol=0.08, rtol=0)
        assert_close(found[1] - found[0], torch.tensor([0.125, 0.125]), atol=0.03, rtol=0)


def test_the_first_look_is_what_centres_count_from_and_the_image_if_asked(locator, phantom_batch):
    film = Film.plain(phantom_batch)
    first = RegionCropper(locator, reading="absolute").read(locator.features(film.view(96)))
    settings = {"px": (32, 32), "reading": "absolute", "rule": "moments", "spreads": (0.02, 0.02), "floor": 100.0}
    by_look = RegionCropper(locator, centres=((0.0, 0.1), (0.1, 0.0)), centres_from="look", **settings)(film).boxes
    by_image = RegionCropper(locator, centres=((0.3, 0.6), (0.6, 0.3)), **settings)(film).boxes

    middle = (by_look[..., :2] + by_look[..., 2:]) / 2
    expected = moments(first)[0][:, None] + torch.tensor([[0.0, 0.1], [0.1, 0.0]])
    assert_close(middle, expected.clamp(0.2, 0.8), atol=0.01, rtol=0)
    assert_close(
        (by_image[..., :2] + by_image[..., 2:]) / 2, torch.tensor([[0.3, 0.6], [0.6, 0.3]]).expand(4, 2, 2), atol=0.02, rtol=0
    )
