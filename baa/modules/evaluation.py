"""A trained model under Lightning's `test`: ages and regions of every case, from all processes."""

import lightning as L
import torch

from baa.data.batch import Batch
from baa.metrics.predictions import Gathered, Predictions
from baa.nets.regions import PRIOR, RAW, Places, Regions
from baa.nets.two_stage import BoneAgeModel


class EvaluationModule(L.LightningModule):
    """Estimate the ages of a split with a model of any stage.

    Args:
        model: in eval mode.
    """

    def __init__(self, model: BoneAgeModel) -> None:
        super().__init__()
        self.model = model
        self.paper = None if model.cropper is None else model.cropper.as_published()
        self.gathered = Gathered()
        self.predictions: Predictions | None = None

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        prediction = self.model(batch.view, batch.sex, batch.regions)
        predictions = Predictions(prediction.months.float(), batch.gt_boxes, batch.capitate)
        if self.model.streams_with_ages:
            alone = torch.stack([one.months.float() for one in prediction.alone], dim=1)
            predictions = predictions._replace(alone=alone)
        regions = batch.regions
        if regions is not None and regions.points is not None:
            found = Places(regions.boxes, regions.points)
            places = {"": found, "raw_": regions.instead.get(RAW, found), "paper_": self._as_published(batch, regions)}
            if PRIOR in regions.instead:
                places["prior_"] = regions.instead[PRIOR]
            fields = {f"{prefix}{name}": part for prefix, place in places.items() for name, part in place._asdict().items()}
            predictions = predictions._replace(fallback=regions.fallback, **fields)
        self.gathered.update(batch.case, predictions)

    def _as_published(self, batch: Batch, regions: Regions) -> Places:
        """Find the regions as the paper does, in batches with annotated boxes; NaN in others."""
        assert self.paper is not None
        assert regions.points is not None
        if not batch.gt_boxes.isfinite().any():
            return Places(torch.full_like(regions.boxes, torch.nan), torch.full_like(regions.points, torch.nan))
        found = self.paper.localize(batch.view.render(self.paper.locator.px)).in_source(batch.view)
        assert found.points is not None
        return Places(found.boxes, found.points)

    def on_test_epoch_end(self) -> None:
        # Still on the device: after the test the module is on the CPU, from which NCCL cannot gather.
        predictions = self.gathered.compute()
        self.gathered.reset()
        self.predictions = predictions._replace(months=predictions.months.reshape(-1))  # torchmetrics squeezes a single one

    def take_predictions(self) -> Predictions:
        """Return the last test's predictions of all processes, in the order of the cases, and forget them."""
        predictions, self.predictions = self.predictions, None
        assert predictions is not None
        return predictions
