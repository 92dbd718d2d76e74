"""Localization metrics against values computed by hand."""

import pytest
import torch

from baa.metrics.localization import localization
from baa.metrics.predictions import Predictions

REGIONS = ("carpal", "hand")


@pytest.fixture
def predictions():
    """One case, two regions."""
    return Predictions(
        months=torch.zeros(1),
        gt_boxes=torch.tensor([[[0.2, 0.2, 0.4, 0.4], [0.0, 0.0, 1.0, 1.0]]]),
        capitate=torch.tensor([[0.4, 0.34]]),
        boxes=torch.tensor([[[0.3, 0.2, 0.5, 0.4], [0.0, 0.0, 0.5, 0.5]]]),
        points=torch.tensor([[[0.45, 0.3], [0.5, 0.5]]]),
        fallback=torch.tensor([[False, True]]),
    )


def test_localization_by_hand(predictions):
    assert localization(predictions, REGIONS, "test") == pytest.approx(
        {
            "test/carpal_fallback": 0,
            "test/carpal_marked": 1,
            "test/carpal_pointing": 0,
            "test/carpal_iou": 1 / 3,
            "test/carpal_coverage": 0.5,
            "test/hand_fallback": 1,
            "test/hand_marked": 1,
            "test/hand_pointing": 1,
            "test/hand_iou": 0.25,
            "test/hand_coverage": 0.25,
            "test/capitate_marked": 1,
            "test/capitate_in_box": 1,
            "test/capitate_distance": 0.04,
            "test/capitate_distance_of_hand": 0.04,
        }
    )


def test_what_map_prior_and_paper_find_alone_stands_beside_it(predictions):
    exact, nowhere = predictions.gt_boxes, torch.full((1, 2, 4), torch.nan)
    points = {f"{name}_points": torch.tensor([[[0.3, 0.3], [2.0, 2.0]]]) for name in ("raw", "prior", "paper")}
    boxes = {"raw_boxes": exact, "prior_boxes": predictions.boxes, "paper_boxes": nowhere}
    found = localization(predictions._replace(**points, **boxes), REGIONS, "test")

    assert (found["test/carpal_pointing"], found["test/carpal_pointing_raw"], found["test/hand_pointing_raw"]) == (0, 1, 0)
    assert (found["test/carpal_iou_raw"], found["test/hand_coverage_raw"]) == pytest.approx((1, 1))
    assert found["test/hand_iou_prior"] == pytest.approx(0.25)
    assert not any(name.endswith("_paper") for name in found)


def test_the_hand_of_the_capitate_distance_reaches_from_carpus_to_fingertips(predictions):
    gt_boxes = torch.tensor([[[0.2, 0.6, 0.4, 0.9], [0.1, 0.5, 0.5, 0.7]]])
    found = localization(predictions._replace(gt_boxes=gt_boxes), REGIONS, "test")

    assert found["test/capitate_distance_of_hand"] == pytest.approx(0.04 / 0.4)


def test_regions_are_found_by_name_in_any_order_and_number(predictions):
    order = [1, 0, 1]
    boxes = {name: getattr(predictions, name)[:, order] for name in ("gt_boxes", "boxes", "points", "fallback")}
    found = localization(predictions._replace(**boxes), ("hand", "carpal", "thumb"), "test")
    expected = localization(predictions, REGIONS, "test")

    assert {name: value for name, value in found.items() if "thumb" not in name} == expected
    assert found["test/thumb_iou"] == expected["test/hand_iou"]


def test_without_a_carpal_region_there_is_no_capitate_distance(predictions):
    found = localization(predictions, ("wrist", "hand"), "test")

    assert found["test/wrist_iou"] == pytest.approx(1 / 3)
    assert not [name for name in found if "capitate" in name]


def test_unannotated_cases_count_for_fallback_only(predictions):
    unknown = predictions._replace(gt_boxes=predictions.gt_boxes * torch.nan, capitate=predictions.capitate * torch.nan)

    assert localization(unknown, REGIONS, "test") == {"test/carpal_fallback": 0, "test/hand_fallback": 1}
