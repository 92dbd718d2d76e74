"""Localization: the boxes and points that a locator finds, against annotations."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import box_area

from baa.metrics.predictions import Predictions

FOUND_BY = {"": "", "_raw": "raw_", "_prior": "prior_", "_paper": "paper_"}
"""Suffix of a metric -> prefix of its fields in `Predictions`."""

CARPAL, HAND = "carpal", "hand"
"""The regions that the capitate metrics refer to."""


def localization(predictions: Predictions, regions: Sequence[str], split: str) -> dict[str, float | list[float]]:
    """Compute localization metrics of each region, and the distance of the carpal box from the capitate.

    Per region, `SPLIT/REGION_...`:
        fallback: share of cases with a degenerate heat map.
        marked: number of cases with an annotated box. The metrics below use these cases.
        pointing: share of points inside the annotated box.
        iou: mean intersection over union of the crop's box and the annotated box.
        coverage: mean share of the annotated box that the crop's box contains.

    The last three also for what each of these finds alone: `..._raw`, the heat map; `..._prior`, the spatial prior, if there is
    one; `..._paper`, the paper's reading (Grad-CAM of the last layer, ReLU, peak).

    For the region `carpal`, on the `SPLIT/capitate_marked` cases with an annotated capitate:
        capitate_in_box: share of capitates inside the carpal box.
        capitate_distance: mean distance of the carpal box's center from it, as a share of the radiograph's longer side.
        capitate_distance_of_hand: the same as a share of the longer side of the annotated hand, from carpus to fingertips.

    Args:
        predictions: of N cases, with boxes.
        regions: names of the R regions, in the order of the boxes.
        split: prefix of the names.
    """
    boxes, fallback = predictions.boxes, predictions.fallback
    assert boxes is not None
    assert fallback is not None
    assert len(regions) == boxes.shape[1], f"{boxes.shape[1]} regions, but the names {tuple(regions)}"
    result: dict[str, float | list[float]] = {}
    for i, name in enumerate(regions):
        result[f"{split}/{name}_fallback"] = float(fallback[:, i].float().mean())
        marked = predictions.gt_boxes[:, i].isfinite().all(dim=1)
        if not marked.any():
            continue
        true = predictions.gt_boxes[marked, i]
        result[f"{split}/{name}_marked"] = int(marked.sum())
        for suffix, prefix in FOUND_BY.items():
            found, points = (getattr(predictions, f"{prefix}{field}") for field in ("boxes", "points"))
            if found is None or not found[marked, i].isfinite().all():
                continue
            found, points = found[marked, i], points[marked, i]
            shared = intersection(found, true)
            result[f"{split}/{name}_pointing{suffix}"] = float(inside(points, true).float().mean())
            result[f"{split}/{name}_iou{suffix}"] = float((shared / (box_area(found) + box_area(true) - shared)).mean())
            result[f"{split}/{name}_coverage{suffix}"] = float((shared / box_area(true)).mean())
    if CARPAL in regions:
        result |= _capitate(predictions, boxes, regions, split)
    return result


def _capitate(predictions: Predictions, boxes: Tensor, regions: Sequence[str], split: str) -> dict[str, float]:
    marked = predictions.capitate.isfinite().all(dim=1)
    if not marked.any():
        return {}
    box, capitate = boxes[marked, regions.index(CARPAL)], predictions.capitate[marked]
    distance = ((box[:, :2] + box[:, 2:]) / 2 - capitate).norm(dim=1)
    result = {
        f"{split}/capitate_marked": int(marked.sum()),
        f"{split}/capitate_in_box": float(inside(capitate, box).float().mean()),
        f"{split}/capitate_distance": float(distance.mean()),
    }
    if HAND in regions:
        true = predictions.gt_boxes[marked][:, [regions.index(CARPAL), regions.index(HAND)]]
        sides = true[:, :, 2:].amax(dim=1) - true[:, :, :2].amin(dim=1)
        shares = (distance / sides.amax(dim=1))[sides.isfinite().all(dim=1)]
        if len(shares):
            result[f"{split}/capitate_distance_of_hand"] = float(shares.mean())
    return result


def inside(points: Float[Tensor, "case 2"], boxes: Float[Tensor, "case 4"]) -> Bool[Tensor, " case"]:
    """Return whether each point [N, 2] is inside its box [N, 4]: bool [N].

    Example:
        >>> inside(torch.tensor([[0.5, 0.5], [0.9, 0.5]]), torch.tensor([[0.4, 0.4, 0.6, 0.6]]).expand(2, 4))
        tensor([ True, False])
    """
    return ((points >= boxes[:, :2]) & (points <= boxes[:, 2:])).all(dim=1)


def intersection(a: Float[Tensor, "case 4"], b: Float[Tensor, "case 4"]) -> Float[Tensor, " case"]:
    """Compute the intersection area [N] of each pair of boxes [N, 4].

    Example:
        >>> intersection(torch.tensor([[0.0, 0.0, 0.5, 0.5]]), torch.tensor([[0.25, 0.0, 1.0, 1.0]]))
        tensor([0.1250])
    """
    size = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0)
    return size.prod(dim=1)
