"""The model: regions, streams and ages of a view, averaged over flips once."""

import pytest
import torch
from torch.testing import assert_close

from baa.nets.attention import Attribution
from baa.nets.cropper import RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.heads import AgePrediction
from baa.nets.input_check import InputCheck
from baa.nets.regions import Region
from baa.nets.two_stage import WHOLE, BoneAgeModel, scaled_side
from baa.nets.view import View

REGIONS = {
    "carpal": Region(48, extent=1.5, min_side=0.2, max_side=0.4, fallback_side=0.3),
    "hand": Region(40, extent=2.0, min_side=0.4, max_side=0.8, fallback_side=0.6),
}
SEX = torch.tensor([0, 1, 2, 0])


@pytest.fixture
def view(phantom_batch):
    return View.of(phantom_batch)


@pytest.fixture
def cropper(locator):
    return RegionCropper(locator, REGIONS, attribution=Attribution(mode="absolute"))


def make_estimator(*streams):
    return Estimator(backbones=dict.fromkeys(streams, "test_resnet"), conv_pool=(), fusion={"width": 16})


def model_of(cropper, *streams, **settings):
    return BoneAgeModel(cropper, make_estimator(*streams), **settings).eval()


class Recorder(Estimator):
    """Record the crops and return these ages in turn."""

    def __init__(self, *months):
        super().__init__(backbones=dict.fromkeys(("carpal", WHOLE), "test_resnet"), fusion={"width": 16})
        self.months = list(months)
        self.received = []

    def forward(self, crops, sex):
        self.received.append(crops)
        return AgePrediction(torch.full((len(sex),), self.months[len(self.received) - 1]))


def test_eval_mode_averages_the_ages_of_the_crops_and_their_mirror_images(cropper, view):
    model = model_of(cropper, "carpal", "hand")
    with torch.no_grad():
        crops = cropper(view).crops
        mirrored = {name: crop.flip(-1) for name, crop in crops.items()}
        given, other = model.estimator(crops, SEX).months, model.estimator(mirrored, SEX).months
        found = model(view, SEX).months

    assert (given != other).all()
    assert_close(found, (given + other) / 2)


def test_the_estimator_runs_twice_in_eval_mode_and_once_otherwise(cropper, view):
    for training, flip_average, expected in ((False, True, [100.0, 120.0]), (False, False, [100.0]), (True, True, [100.0])):
        estimator = Recorder(100.0, 120.0)
        model = BoneAgeModel(cropper, estimator, flip_average=flip_average).train(training)
        months = model(view, SEX).months

        assert len(estimator.received) == len(expected)
        assert_close(months, torch.full((4,), sum(expected) / len(expected)))


def test_the_second_run_of_the_estimator_gets_every_stream_mirrored(cropper, view):
    estimator = Recorder(100.0, 120.0)
    BoneAgeModel(cropper, estimator, whole_px=64).eval()(view, SEX)
    given, mirrored = estimator.received

    assert given.keys() == mirrored.keys() == {"carpal", "hand", WHOLE}
    for name, crop in given.items():
        assert torch.equal(mirrored[name], crop.flip(-1))


@pytest.mark.parametrize(("answer", "clamped"), [(-7.0, 0.0), (300.0, 240.0)])
def test_ages_are_clamped_in_eval_mode_only(cropper, view, answer, clamped):
    for training, expected in ((False, clamped), (True, answer)):
        model = BoneAgeModel(cropper, Recorder(answer, answer)).train(training)
        assert model(view, SEX).months.tolist() == [expected] * 4


def test_flips_are_averaged_before_ages_are_clamped(cropper, view):
    assert BoneAgeModel(cropper, Recorder(250.0, 220.0)).eval()(view, SEX).months.tolist() == [235.0] * 4


def test_streams_are_the_crops_by_name_and_the_whole_view(cropper, view):
    model = model_of(cropper, "carpal", "hand", WHOLE, whole_px=80)
    regions = model.regions(view)
    streams = model.streams(view, regions)

    assert list(streams) == ["carpal", "hand", WHOLE]
    assert torch.equal(streams["carpal"], regions.crops["carpal"])
    assert torch.equal(streams["hand"], regions.crops["hand"])
    assert torch.equal(streams[WHOLE], view.render(80))


def test_the_whole_view_is_no_stream_of_a_model_that_does_not_read_it(cropper, view):
    assert WHOLE not in model_of(cropper, "carpal", "hand").streams(view, cropper(view))


def test_a_scale_shrinks_every_stream(locator, view):
    regions = {name: region._replace(px=160) for name, region in REGIONS.items()}
    model = model_of(
        RegionCropper(locator, regions, attribution=Attribution(mode="absolute")), "carpal", "hand", WHOLE, whole_px=192
    )
    found = model.regions(view)
    shapes = {name: crop.shape[-2:] for name, crop in model.streams(view, found, scale=0.5).items()}

    assert shapes == {"carpal": (80, 80), "hand": (80, 80), WHOLE: (96, 96)}
    assert_close(model.streams(view, found, scale=0.5)["hand"].mean(), found.crops["hand"].mean(), atol=0.01, rtol=0)
    full, half = model(view, SEX, found).months, model(view, SEX, found, 0.5).months
    assert (full != half).all()


@pytest.mark.parametrize(
    ("px", "scale", "side"),
    [(300, 1.0, 300), (300, 0.5, 144), (300, 0.25, 80), (300, 0.2, 64), (300, 0.99, 300), (48, 0.5, 48)],
)
def test_a_scaled_side_is_a_multiple_of_16_from_64_to_the_full_side(px, scale, side):
    assert scaled_side(px, scale) == side


def test_without_an_estimator_the_age_is_the_locators_own_and_clamped(locator, cropper, view):
    with torch.no_grad():
        model = BoneAgeModel(cropper, None).eval()
        assert torch.equal(model(view, SEX).months, locator(view.render(96)).months)
        locator.head.age.layers[-1].bias.fill_(0)
        locator.head.age.layers[-1].bias[-1] = 1e4  # every share of the distribution in the oldest bin
        locator.head.age.bins += 12
        assert (locator(view.render(96)).months > 240).all()
        assert model(view, SEX).months.tolist() == [240.0] * 4


def test_without_a_cropper_there_are_no_regions_and_the_whole_view_is_read(view):
    model = model_of(None, WHOLE, whole_px=64)
    whole = view.render(64)
    with torch.no_grad():
        expected = (model.estimator({WHOLE: whole}, SEX).months + model.estimator({WHOLE: whole.flip(-1)}, SEX).months) / 2

        assert model.regions(view) is None
        assert_close(model(view, SEX).months, expected)


def test_given_regions_are_used_and_the_locator_does_not_run(cropper, view, monkeypatch):
    model = model_of(cropper, "carpal", "hand")
    with torch.no_grad():
        regions = model.regions(view)
        moved = regions._replace(crops={name: torch.rand_like(crop) for name, crop in regions.crops.items()})
        live = model(view, SEX).months
        monkeypatch.setattr(cropper, "forward", lambda view: pytest.fail("regions were found again"))

        assert_close(model(view, SEX, regions).months, live)
        assert (model(view, SEX, moved).months != live).all()


def test_upright_turns_a_radiograph_and_finds_its_regions_as_if_it_had_been_upright(cropper, phantom_batch):
    class Upright(InputCheck):
        """Recognize the first orientation that is tried after the given one."""

        def forward(self, features):
            score = features.new_full((len(features),), 1.0 if self.tried == 0 else -1.0)
            self.tried += 1
            return score

    check = Upright(cropper.locator.backbone.channels)
    check.tried = 0
    model = BoneAgeModel(cropper, None, input_check=check).eval()
    oriented, regions = model.upright(phantom_batch)
    expected = cropper(oriented.view)

    assert (oriented.quarters > 0).all()
    assert_close(regions.boxes, expected.boxes)
    assert_close(regions.crops, expected.crops)


def test_without_an_input_check_radiographs_stay_as_given(cropper, phantom_batch):
    oriented, regions = BoneAgeModel(cropper, None).eval().upright(phantom_batch)

    assert torch.equal(oriented.view.affine, View.of(phantom_batch).affine)
    assert_close(regions.boxes, cropper(View.of(phantom_batch)).boxes)
