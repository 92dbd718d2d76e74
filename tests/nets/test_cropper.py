"""Heat maps to crops of any number of regions, with a small real locator."""

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import box_iou

from baa.nets.attention import Attribution
from baa.nets.boxes import HEAT_GRID, BoxFinder, upsample
from baa.nets.cropper import RegionCropper
from baa.nets.regions import Region
from baa.nets.view import View, black_out

CARPAL = Region(64, extent=1.5, min_side=0.2, max_side=0.4, fallback_side=0.3)
HAND = Region(48, extent=2.0, min_side=0.4, max_side=0.8, fallback_side=0.6)
THUMB = Region(32, extent=2.0, min_side=0.1, max_side=0.3, fallback_side=0.2)
REGIONS = {"carpal": CARPAL, "hand": HAND}
THREE = {"thumb": THUMB, **REGIONS}


def make_cropper(locator, regions=REGIONS, **settings):
    return RegionCropper(locator, regions, **{"attribution": Attribution(mode="absolute")} | settings)


@pytest.mark.parametrize("regions", [{"hand": HAND}, REGIONS, THREE], ids=lambda regions: str(len(regions)))
@pytest.mark.parametrize("box_method", ["peak", "moments"])
def test_each_region_is_found_with_all_earlier_ones_blacked_out(locator, phantom_batch, regions, box_method):
    cropper = make_cropper(locator, regions, box_method=box_method)
    view = View.of(phantom_batch)
    found = cropper(view)
    image = view.render(96)

    count = len(regions)
    assert found.boxes.shape == (4, count, 4)
    assert found.heat.shape == (4, count, 3, 3)
    assert found.fallback.shape == (4, count)
    assert {name: crop.shape for name, crop in found.crops.items()} == {
        name: (4, 1, region.px, region.px) for name, region in regions.items()
    }
    assert list(found.crops) == list(regions)
    for place in range(count):
        assert_close(found.heat[:, place], cropper.heat_map(image))
        image = black_out(image, found.boxes[:, place])


def test_the_third_map_differs_from_one_with_a_single_region_hidden(locator, phantom_batch):
    cropper = make_cropper(locator, THREE)
    view = View.of(phantom_batch)
    found = cropper(view)
    for place in (0, 1):
        one_hidden = black_out(view.render(96), found.boxes[:, place])
        assert not torch.allclose(found.heat[:, 2], cropper.heat_map(one_hidden))


def test_regions_have_different_boxes_with_sides_in_their_limits(locator, phantom_batch):
    boxes = make_cropper(locator, THREE)(View.of(phantom_batch)).boxes
    sides = boxes[..., 2:] - boxes[..., :2]
    overlaps = []
    for place, region in enumerate(THREE.values()):
        assert (sides[:, place] >= region.min_side - 1e-6).all()
        assert (sides[:, place] <= region.max_side + 1e-6).all()
        overlaps += [box_iou(boxes[:, place], boxes[:, other]).diagonal() for other in range(place)]
    assert (torch.stack(overlaps).mean(dim=1) < 0.9).all()


def test_each_crop_is_cut_from_its_own_box(locator, phantom_batch):
    view = View.of(phantom_batch)
    found = make_cropper(locator, THREE)(view)
    for place, (name, region) in enumerate(THREE.items()):
        assert torch.equal(found.crops[name], view.crops(found.boxes[:, place, None], [(region.px, region.max_side)])[0])


def test_degenerate_heat_maps_give_centered_boxes_and_are_marked(locator, phantom_batch):
    torch.nn.init.zeros_(locator.head.age.layers[-1].weight)
    found = make_cropper(locator, THREE)(View.of(phantom_batch))

    assert found.fallback.all()
    expected = torch.tensor([[0.4, 0.4, 0.6, 0.6], [0.35, 0.35, 0.65, 0.65], [0.2, 0.2, 0.8, 0.8]])
    assert_close(found.boxes, expected.expand(4, 3, 4))
    assert found.points.isnan().all()


def test_the_box_of_a_degenerate_heat_map_lies_inside_the_image_about_the_middle_of_all_heat(locator, phantom_batch):
    torch.nn.init.zeros_(locator.head.age.layers[-1].weight)
    regions = {"carpal": CARPAL._replace(prior_center=(0.1, 0.45))}
    boxes = make_cropper(locator, regions, prior_origin="heat_map")(View.of(phantom_batch)).boxes
    assert_close(boxes, torch.tensor([0.45, 0.7, 0.75, 1.0]).expand(4, 1, 4))


def test_a_heat_map_that_is_hottest_at_the_border_is_degenerate(locator, phantom_batch, monkeypatch):
    heat = torch.rand(4, 12, 12)
    heat[:2, 5, 11] = 5.0
    heat[2:, 5, 6] = 5.0
    monkeypatch.setattr(RegionCropper, "heat_map", lambda *_, **__: heat)
    found = make_cropper(locator, {"hand": HAND})(View.of(phantom_batch))
    assert found.fallback[:, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize("box_method", ["peak", "moments"])
@pytest.mark.parametrize("lowest_mode", [False, True])
def test_a_heat_map_that_is_not_finite_gives_a_typical_box_to_its_image_alone(locator, phantom_batch, box_method, lowest_mode):
    heat = torch.rand(4, 12, 12)
    heat[:, 5, 6] = 5.0
    broken = heat.clone()
    broken[0, 3, 3] = torch.nan
    regions = {"hand": HAND._replace(lowest_mode=lowest_mode, fallback_side=0.5)}
    cropper = make_cropper(locator, regions, box_method=box_method)
    cropper.heat_map = lambda image, features, flip_average: heat
    expected = cropper.localize(phantom_batch).boxes
    cropper.heat_map = lambda image, features, flip_average: broken
    found = cropper.localize(phantom_batch)

    assert found.fallback[:, 0].tolist() == [True, False, False, False]
    assert_close(found.boxes[0, 0], torch.tensor([0.25, 0.25, 0.75, 0.75]))
    assert_close(found.boxes[1:], expected[1:])


def test_localizing_does_not_change_the_locator(locator, phantom_batch):
    before = {name: tensor.clone() for name, tensor in locator.state_dict().items()}
    cropper = make_cropper(locator).train()
    with torch.inference_mode():
        cropper(View.of(phantom_batch))

    assert not cropper.training
    assert not locator.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in locator.state_dict().items())
    assert all(parameter.grad is None for parameter in locator.parameters())


def test_the_boxes_of_an_image_do_not_depend_on_its_batch(locator, phantom_batch):
    cropper = make_cropper(locator)
    alone = torch.cat([cropper(View.of(image[None])).boxes for image in phantom_batch])

    assert_close(cropper(View.of(phantom_batch)).boxes, alone, atol=1e-4, rtol=0)


def test_features_that_were_computed_before_give_the_same_regions(locator, phantom_batch):
    cropper = make_cropper(locator)
    image = View.of(phantom_batch).render(96)
    for found, expected in zip(cropper.localize(image, cropper.features(image)), cropper.localize(image), strict=True):
        assert_close(found, expected, equal_nan=True)


def test_cached_boxes_give_the_same_crops_without_the_locator(locator, phantom_batch, monkeypatch):
    cropper = make_cropper(locator, THREE, box_method="moments")
    view = View.of(phantom_batch)
    live = cropper(view)
    monkeypatch.setattr(locator, "features", lambda image: pytest.fail("the locator ran"))
    cached = cropper.crop_at(view, live.boxes)

    assert_close(cached.boxes, live.boxes)
    assert_close(cached.crops, live.crops)
    assert cached.heat is None
    assert cached.fallback is None


def test_a_cached_crop_of_the_mirrored_hand_is_the_mirrored_crop(locator, phantom_batch):
    cropper = make_cropper(locator, box_method="moments")
    view = View.of(phantom_batch)
    mirrored = view.turned(torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.bool))
    boxes = cropper(view).boxes

    crops = cropper.crop_at(view, boxes).crops
    for name, other in cropper.crop_at(mirrored, boxes).crops.items():
        assert_close(other, crops[name].flip(-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("attribution", "share"),
    [(Attribution(mode="absolute"), 0.05), (Attribution("gradient_x_activation", "absolute", ["8"], 0.1), 0.15)],
)
def test_a_locator_in_bfloat16_gives_nearly_the_same_heat_map_in_float32(locator, phantom_batch, attribution, share):
    image = View.of(phantom_batch).render(locator.px)
    croppers = [make_cropper(locator, attribution=attribution, half_precision=half) for half in (False, True)]
    full, half = (cropper.heat_map(image) for cropper in croppers)

    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < share * full.max()


def with_priors(centers, sigmas):
    """The two regions, with spatial priors."""
    return {
        name: region._replace(prior_center=center, prior_sigma=sigma)
        for (name, region), center, sigma in zip(REGIONS.items(), centers, sigmas, strict=True)
    }


def test_a_prior_from_the_heat_map_moves_with_the_heat(locator):
    """The head's answer is a map given as features: the second one lies an eighth further right and down."""
    regions = with_priors(((0.0, 0.25), (0.0, 0.0)), (0.05, 0.1))
    cropper = make_cropper(locator, regions, prior_origin="heat_map", prior_floor=0.5)
    heat = torch.zeros(2, 8, 8)
    heat[0, 2, 3] = heat[1, 3, 4] = 1.0
    cropper.features = lambda image: image
    cropper.heat_map = lambda image, features, flip_average: heat
    found = cropper.localize(torch.zeros(2, 1, 96, 96))

    origin = BoxFinder().moments(upsample(heat, HEAT_GRID))[0]
    assert_close(origin, torch.tensor([[3.5, 2.5], [4.5, 3.5]]) / 8, atol=0.01, rtol=0)
    for place, below in enumerate((0.25, 0.0)):
        point = found.points[:, place]
        assert_close(point, origin + torch.tensor([0.0, below]), atol=0.08, rtol=0)
        assert_close(point[1] - point[0], torch.tensor([0.125, 0.125]), atol=0.03, rtol=0)


def test_prior_centers_count_from_the_first_heat_map_or_from_the_image(locator, phantom_batch):
    view = View.of(phantom_batch)
    first = make_cropper(locator).heat_map(view.render(96))
    settings = {"box_method": "moments", "prior_floor": 100.0}
    by_heat_map = with_priors(((0.0, 0.1), (0.1, 0.0)), (0.02, 0.02))
    by_image = with_priors(((0.3, 0.6), (0.6, 0.3)), (0.02, 0.02))
    boxes_by_heat_map = make_cropper(locator, by_heat_map, prior_origin="heat_map", **settings)(view).boxes
    boxes_by_image = make_cropper(locator, by_image, **settings)(view).boxes

    def centers(boxes):
        return (boxes[..., :2] + boxes[..., 2:]) / 2

    half_sides = torch.tensor([[CARPAL.min_side], [HAND.min_side]]) / 2
    expected = BoxFinder().moments(upsample(first, HEAT_GRID))[0][:, None] + torch.tensor([[0.0, 0.1], [0.1, 0.0]])
    assert_close(centers(boxes_by_heat_map), expected.clamp(half_sides, 1 - half_sides), atol=0.01, rtol=0)
    assert_close(centers(boxes_by_image), torch.tensor([[0.3, 0.6], [0.6, 0.3]]).expand(4, 2, 2), atol=0.02, rtol=0)


def test_a_prior_of_one_region_does_not_move_the_other(locator, phantom_batch):
    regions = {"carpal": CARPAL._replace(prior_center=(0.5, 0.69), prior_sigma=0.1), "hand": HAND}
    view = View.of(phantom_batch)
    cropper, without = make_cropper(locator, regions), make_cropper(locator)
    found = cropper(view)
    hidden = black_out(view.render(96), found.boxes[:, 0])

    plain = without.heat_map(hidden)
    sure = ~found.fallback[:, 1]
    assert sure.any()
    assert_close(found.points[sure, 1], BoxFinder().peak(upsample(plain, HEAT_GRID))[sure])
    assert found.heat.shape == (4, 2, 3, 3)


def test_the_heat_map_is_the_locators_own_whatever_the_prior(locator, phantom_batch):
    view = View.of(phantom_batch)
    regions = with_priors(((0.3, 0.6), (0.6, 0.3)), (0.02, 0.02))
    found = make_cropper(locator, regions, prior_floor=1000.0)(view)
    plain = make_cropper(locator)(view)

    assert torch.equal(found.heat[:, 0], plain.heat[:, 0])
    sure = ~plain.fallback[:, 0]
    assert sure.any()
    assert_close(found.instead["raw"].points[sure, 0], plain.points[sure, 0])
    assert_close(found.instead["prior"].points, torch.tensor([[0.3, 0.6], [0.6, 0.3]]).expand(4, 2, 2), atol=0.02, rtol=0)


@pytest.mark.parametrize(("floor", "sigma", "share"), [(1000.0, 0.02, 1.0), (0.0, 50.0, 0.0)])
def test_the_share_of_a_prior_runs_from_the_maps_own_place_to_the_priors(locator, phantom_batch, floor, sigma, share):
    regions = with_priors(((0.3, 0.6), (0.6, 0.3)), (sigma, sigma))
    found = make_cropper(locator, regions, prior_floor=floor)(View.of(phantom_batch))

    assert_close(found.prior_shares(), torch.full((4, 2), share), atol=0.05, rtol=0)
    assert make_cropper(locator)(View.of(phantom_batch)).prior_shares() is None


def test_a_floor_does_not_hide_that_a_map_is_flat(locator, phantom_batch):
    torch.nn.init.zeros_(locator.head.age.layers[-1].weight)
    regions = with_priors(((0.3, 0.6), (0.6, 0.3)), (0.05, 0.05))
    found = make_cropper(locator, regions, prior_floor=1.0)(View.of(phantom_batch))

    assert found.fallback.all()
    expected = torch.tensor([[0.15, 0.45, 0.45, 0.75], [0.3, 0.0, 0.9, 0.6]])
    assert_close(found.boxes, expected.expand(4, 2, 4))


@pytest.mark.parametrize("box_method", ["peak", "moments"])
def test_a_region_of_the_lowest_mode_lies_about_it_and_the_next_about_the_rest(locator, box_method):
    """The head's answer is a map given as an image: a strong bump above, a weaker one below."""
    regions = {"carpal": CARPAL._replace(lowest_mode=True, min_side=0.1), "hand": HAND}
    cropper = make_cropper(locator, regions, box_method=box_method)
    cropper.heat_map = lambda image, features, flip_average: image[:, 0]
    found = cropper.localize(torch.maximum(bump(0.4, 0.3), 0.7 * bump(0.6, 0.75)).clamp(min=0.26)[None])

    assert_close(found.points[0, 0], torch.tensor([0.6, 0.75]), atol=0.02, rtol=0)
    x0, y0, x1, y1 = found.boxes[0, 0].tolist()
    assert x0 < 0.6 < x1 < 0.8
    assert 0.55 < y0 < 0.75 < y1
    assert_close(found.points[0, 1], torch.tensor([0.4, 0.3]), atol=0.02, rtol=0)


def bump(x, y, width=0.06, cells=96):
    grid = (torch.arange(cells) + 0.5) / cells
    return torch.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * width**2))[None]


def test_each_region_says_whether_its_map_is_averaged_with_the_mirror_images(locator, phantom_batch):
    regions = {"carpal": CARPAL._replace(flip_average=True), "hand": HAND}
    attribution = Attribution(method="gradient_x_activation", mode="absolute", layers=["8", "16"])
    cropper = make_cropper(locator, regions, attribution=attribution)
    image = View.of(phantom_batch).render(96)
    found = cropper.localize(image)
    hidden = black_out(image, found.boxes[:, 0])

    averaged = (cropper.heat_map(image) + cropper.heat_map(image.flip(-1)).flip(-1)) / 2
    assert_close(found.heat[:, 0], averaged, atol=0.01, rtol=0)  # cells below zero are raised to it at different times
    assert_close(found.heat[:, 1], cropper.heat_map(hidden))
