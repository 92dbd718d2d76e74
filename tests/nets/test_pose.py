"""There and back: pictures laid in a pose, and what is found in them."""

import itertools

import pytest
import torch

from baa.nets.pose import Pose

POSES = list(itertools.product(range(4), (False, True)))
POSE = Pose(torch.tensor([quarters for quarters, _ in POSES]), torch.tensor([mirrored for _, mirrored in POSES]))


def test_pictures_are_turned_then_mirrored_and_come_back():
    picture = torch.rand(1, 2, 20, 20)
    laid = POSE.lay(picture.repeat(len(POSES), 1, 1, 1))
    for (quarters, mirrored), found in zip(POSES, laid, strict=True):
        expected = torch.rot90(picture[0], quarters, dims=(1, 2))
        assert torch.equal(found, expected.flip(2) if mirrored else expected)
    assert (POSE.lay_back(laid) == picture).all()


def test_a_box_is_told_where_its_pixels_were_given():
    picture = torch.zeros(len(POSES), 1, 20, 20)
    picture[..., 2:6, 8:15] = 1
    found = []
    for laid in POSE.lay(picture):
        rows, columns = laid[0].nonzero().T
        found.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    boxes = torch.tensor(found)[:, None] / 20
    assert len(boxes.unique(dim=0)) == len(POSES)
    for box in POSE.boxes_back(boxes)[:, 0]:
        assert box.tolist() == pytest.approx([8 / 20, 2 / 20, 15 / 20, 6 / 20])


def test_as_given_nothing_is_done():
    picture, boxes = torch.rand(3, 1, 8, 8), torch.rand(3, 2, 4)
    pose = Pose.as_given(3)
    assert torch.equal(pose.lay(picture), picture)
    assert torch.equal(pose.lay_back(picture), picture)
    assert torch.equal(pose.boxes_back(boxes), boxes)
