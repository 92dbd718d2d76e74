"""A trained model under Lightning's `test`: ages and regions of every case, from all processes."""

import lightning as L
import torch

from baa.data.batch import Batch
from baa.metrics.predictions import Gathered, Predictions
from baa.nets.boxes import peak
from baa.nets.two_stage import BoneAgeModel


class EvaluationModule(L.LightningModule):
    """Estimate the ages of a split with a model of any stage.

    Args:
        model: in eval mode.
    """

    def __init__(self, model: BoneAgeModel) -> None:
        super().__init__()
        self.model = model
        self.gathered = Gathered()
        self.predictions: Predictions | None = None

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        months = self.model(batch.view, batch.sex, batch.regions).months.float()
        predictions = Predictions(months, batch.gt_boxes, batch.capitate)
        regions = batch.regions
        if regions is not None and regions.heat is not None:
            peaks = torch.stack([peak(heat.nan_to_num()) for heat in regions.heat.unbind(dim=1)], dim=1)
            predictions = predictions._replace(boxes=regions.boxes, peaks=peaks, fallback=regions.fallback)
        self.gathered.update(batch.case, predictions)

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
