"""A phantom ossifies as children do, and its annotated boxes lie on its bones."""

import numpy as np
import pytest
from PIL import Image

from baa.data.read.file import ImageFile
from baa.data.sources.phantom import Phantom, phantom_cases
from baa.data.sources.phantom.ossification import CARPAL_APPEARS, cap, carpal_size
from baa.data.sources.phantom.skeleton import FOREARM_MM
from baa.patient import Sex


def test_the_same_seed_gives_the_same_pixels():
    a, b = (phantom_cases(n, seed=5)[2] for n in (3, 10))
    np.testing.assert_array_equal(a.image.load(200).pixels, b.image.load(200).pixels)


def test_another_seed_gives_another_hand():
    a, b = (phantom_cases(1, seed=seed)[0].image.load(100).pixels.astype(int) for seed in (0, 1))
    assert np.abs(a - b).mean() > 5


def test_a_phantom_is_what_its_file_is_read_as(tmp_path):
    for case in phantom_cases(3, seed=6):
        pixels = case.image.load(192).pixels
        Image.fromarray(pixels).save(tmp_path / "hand.png")
        read = ImageFile(tmp_path / "hand.png").load(192)
        assert not read.inverted
        assert np.abs(read.pixels.astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("bone", CARPAL_APPEARS)
def test_girls_are_ahead_and_centers_only_grow(bone):
    sizes = {sex: [carpal_size(bone, float(m), sex) for m in range(0, 220, 4)] for sex in (Sex.MALE, Sex.FEMALE)}

    assert all(np.diff(series).min() >= 0 for series in sizes.values())
    assert all(girl >= boy for girl, boy in zip(sizes[Sex.FEMALE], sizes[Sex.MALE], strict=True))


def test_carpals_appear_in_the_order_of_the_literature():
    order = sorted(CARPAL_APPEARS, key=lambda bone: CARPAL_APPEARS[bone].male)
    assert order[:4] == ["capitate", "hamate", "triquetrum", "lunate"]
    assert order[-1] == "pisiform"


def test_epiphyses_appear_widen_and_fuse():
    widths = [cap("radius", float(months), Sex.MALE) for months in (6, 24, 96, 180, 230)]

    assert next(round(state.width, 1) for state in widths) == 0
    assert widths[1].width < widths[2].width < widths[3].width
    assert [state.gap for state in widths] == [1, 1, 1, 1, 0]


def test_annotated_boxes_lie_on_bone():
    """The carpal box is brighter than the background beside the hand."""
    for case in phantom_cases(10, seed=2):
        pixels = case.image.load(300).pixels
        x0, y0, x1, y1 = (round(edge * 300) for edge in case.gt_boxes["carpal"])
        assert pixels[y0:y1, x0:x1].mean() > np.median(pixels) + 20
        hand = case.gt_boxes["hand"]
        assert hand.y0 < hand.y1
        assert hand.y0 < y0 / 300


def test_the_capitate_is_in_the_carpal_box():
    for case in phantom_cases(20, seed=4):
        x, y = case.capitate
        box = case.gt_boxes["carpal"]
        assert box.x0 < x < box.x1
        assert box.y0 < y < box.y1


def test_an_older_hand_shows_more_bone():
    ossified = [len(Phantom(0, 0, float(months), Sex.FEMALE).pieces) for months in (6, 30, 60, 120)]
    assert ossified == sorted(ossified)
    assert ossified[0] < ossified[-1]


def plate_depth(months: float) -> float:
    """How much darker than the bone on both sides the radius is within 12 mm of its end."""
    hand = Phantom(0, 0, months, Sex.MALE)
    px, (x, top) = 640, FOREARM_MM["radius"]
    down = np.arange(1.5, 12, 0.4)
    points = np.stack([np.full_like(down, x), top - down], axis=1) * hand.scale
    film = hand.load(px)
    corner = np.array([film.frame.left, film.frame.top])
    in_film = (points @ hand.pose[:, :2].T + hand.pose[:, 2]) * px
    columns, rows = ((in_film - corner) * px / film.frame.side).astype(int).T
    bone = film.pixels[rows, columns].astype(float)
    darkest = bone[3:-3].argmin() + 3
    return min(bone[:darkest].max(), bone[darkest + 1 :].max()) - bone[darkest]


def test_the_growth_plate_of_the_radius_is_open_in_a_child_and_gone_in_an_adult():
    assert plate_depth(100) > 3 * plate_depth(222)


def test_a_delayed_carpus_changes_the_carpals_alone():
    whole, delayed = Phantom(0, 1, 120.0, Sex.MALE), Phantom(0, 1, 120.0, Sex.MALE, carpal_delay=60.0)
    kinds = [[(piece.region, tuple(piece.start), piece.near) for piece in hand.pieces] for hand in (whole, delayed)]

    assert len(kinds[1]) < len(kinds[0])
    assert [piece for piece in kinds[0] if piece[0] != "carpal"] == [piece for piece in kinds[1] if piece[0] != "carpal"]
