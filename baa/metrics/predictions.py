"""The predictions of a split: one row per case, gathered from all processes."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class Predictions(NamedTuple):
    """Predictions and annotations of N cases with R regions, in the order of the cases.

    Boxes (x0, y0, x1, y1) and points (x, y) are shares of the square image, NaN where unknown. The fields from `boxes` on are
    None for a run without crops.

    Args:
        months: predicted ages.
        gt_boxes: annotated boxes.
        capitate: annotated center of the capitate.
        boxes: boxes of the crops.
        points: the points of the heat maps that the boxes were found from.
        fallback: whether a degenerate heat map made the region use its default box.
        raw_boxes, raw_points: found from the heat maps alone.
        prior_boxes, prior_points: found from the spatial prior alone; None without a prior.
        paper_boxes, paper_points: found as the paper finds them; NaN for cases without annotated boxes.
        alone: the ages of the streams alone, in the order of `BoneAgeModel.streams_with_ages`; None without any.
    """

    months: Float[Tensor, " case"]
    gt_boxes: Float[Tensor, "case region 4"]
    capitate: Float[Tensor, "case 2"]
    boxes: Float[Tensor, "case region 4"] | None = None
    points: Float[Tensor, "case region 2"] | None = None
    fallback: Bool[Tensor, "case region"] | None = None
    raw_boxes: Float[Tensor, "case region 4"] | None = None
    raw_points: Float[Tensor, "case region 2"] | None = None
    prior_boxes: Float[Tensor, "case region 4"] | None = None
    prior_points: Float[Tensor, "case region 2"] | None = None
    paper_boxes: Float[Tensor, "case region 4"] | None = None
    paper_points: Float[Tensor, "case region 2"] | None = None
    alone: Float[Tensor, "case stream"] | None = None


class Gathered(Metric):
    """Gather the predictions of all cases over processes. (torchmetrics' `CatMetric` flattens them and drops NaN.)

    Shapes:
        batches of case [B] and Predictions of B -> Predictions of N, in the order of the cases

    Example:
        >>> import torch
        >>> gathered = Gathered()
        >>> for case, months in ((1, 130.0), (0, 96.0)):
        ...     row = Predictions(torch.tensor([months]), torch.full((1, 2, 4), torch.nan), torch.full((1, 2), torch.nan))
        ...     gathered.update(torch.tensor([case]), row)
        >>> gathered.compute().months
        tensor([ 96., 130.])
    """

    full_state_update = False
    case: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for field in ("case", *Predictions._fields):
            self.add_state(field, [], dist_reduce_fx="cat")

    def update(self, case: Int[Tensor, " batch"], predictions: Predictions) -> None:
        """Add a batch; `case` [B] has the index of each row's case."""
        for field, values in {"case": case, **predictions._asdict()}.items():
            if values is not None:
                getattr(self, field).append(values)

    def compute(self) -> Predictions:
        order = dim_zero_cat(self.case).argsort().cpu()
        states = {field: getattr(self, field) for field in Predictions._fields}
        return Predictions(**{field: dim_zero_cat(values).cpu()[order] for field, values in states.items() if len(values)})
