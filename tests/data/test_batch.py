"""The dataset of a split: labels in the order of the regions, boxes in shares of the padded square."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from baa.data.batch import Batch, RadiographDataset
from baa.data.cache import open_cache
from baa.data.cases import Box, Case
from baa.data.read.file import ImageFile
from baa.nets.view import View
from baa.patient import Sex

CARPAL, HAND = Box(0.0, 0.5, 1.0, 1.0), Box(0.5, 0.0, 1.0, 0.5)


@pytest.fixture
def radiographs(tmp_path):
    """Three images of 40 x 80 pixels: with both boxes, with that of the hand only, without boxes."""
    cases = []
    for i, boxes in enumerate(({"hand": HAND, "carpal": CARPAL}, {"hand": HAND}, {})):
        pixels = np.random.default_rng(i).integers(0, 255, (80, 40), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        center = (0.5, 0.25) if boxes else None
        cases.append(Case(str(i), ImageFile(tmp_path / f"{i}.png"), None, Sex.MALE, gt_boxes=boxes, capitate=center))
    return open_cache(cases, folder=tmp_path / "cache", px=32, workers=1)


def test_annotated_boxes_are_in_the_order_of_the_regions_and_nan_where_unknown(radiographs):
    sample = RadiographDataset(radiographs, ("carpal", "hand")).__getitems__([2, 0, 1])
    nothing = [torch.nan] * 4
    carpal, hand = [0.25, 0.5, 0.75, 1.0], [0.5, 0.0, 0.75, 0.5]  # a margin of a quarter on both sides

    assert sample.image.shape == (3, 1, 32, 32)
    assert_close(sample.gt_boxes, torch.tensor([[nothing, nothing], [carpal, hand], [nothing, hand]]), equal_nan=True)
    assert_close(sample.capitate[1:], torch.tensor([[0.5, 0.25]] * 2))
    assert sample.capitate[0].isnan().all()
    assert sample.months.isnan().all()
    assert sample.case.tolist() == [2, 0, 1]


@pytest.mark.parametrize("regions", [(), ("hand",), ("carpal", "hand", "thumb")])
def test_there_may_be_any_number_of_regions(radiographs, regions):
    sample = RadiographDataset(radiographs, regions)[0]
    assert sample.gt_boxes.shape == sample.cached_boxes.shape == (len(regions), 4)


def test_cached_boxes_are_those_given(radiographs):
    boxes = torch.rand(3, 2, 4)
    assert_close(RadiographDataset(radiographs, ("carpal", "hand"), boxes)[1].cached_boxes, boxes[1])


def test_a_copy_without_sex_leaves_the_dataset_as_it_is(radiographs):
    dataset = RadiographDataset(radiographs)
    assert dataset.without_sex()[0].sex == Sex.UNKNOWN
    assert dataset[0].sex == Sex.MALE


def test_a_batch_has_the_labels_of_its_sample(radiographs):
    sample = RadiographDataset(radiographs, ("hand",)).__getitems__([0, 1])
    batch = Batch.of(sample, View.of(sample.image.float() / 255))

    assert batch.regions is None
    for name in ("months", "sex", "case", "gt_boxes", "capitate", "cached_boxes"):
        assert getattr(batch, name) is getattr(sample, name)
