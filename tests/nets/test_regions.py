"""Two looks to two crops, with a real small locator."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import box_iou

from baa.nets.film import Film, black_out
from baa.nets.regions import CARPAL, HAND, RegionCropper


@pytest.mark.parametrize("rule", ["peak", "moments"])
def test_second_region_is_found_with_the_first_blacked_out(locator, phantom_batch, rule):
    cropper = RegionCropper(locator, px=(64, 64), reading="absolute", rule=rule)
    film = Film.plain(phantom_batch)
    regions = cropper(film)
    masked = black_out(film.view(96), regions.boxes[:, CARPAL])

    assert_close(regions.heat[:, HAND], cropper.read(cropper.features(masked), HAND))
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
    full, half = (cropper.read(cropper.features(view), CARPAL) for cropper in croppers)

    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.05 * full.max()
