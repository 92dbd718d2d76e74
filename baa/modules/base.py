"""Months in, months out: what all stages share under Lightning. Steps, metrics, optimiser."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.profiler import record_function
from torchmetrics import MeanMetric

from baa.data.batch import Batch
from baa.data.datamodules import PHASE
from baa.metrics.ages import Gathered, Predictions, age_metrics
from baa.nets.boxes import peak
from baa.nets.cropper import REGIONS
from baa.nets.heads import AgeHead, AgePrediction, possible

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
WARMUP = 0.3
SMALLEST_SIDE, SIDE_STEP = 64, 16
"""Of a picture that grows in training, pixels."""


class AgeModule(L.LightningModule):
    """What all stages share: months in, months out. A stage says how it predicts and which head it has.

    Args:
        loss: `mse`, `l1` or `smooth_l1`.
        optimizer, lr, weight_decay: `adam` or `adamw` and its settings.
        schedule: `constant`, or `onecycle` over the whole fit.
        warmup: share of the fit in which the rate rises; None for none of a constant rate, and `WARMUP` of one cycle.
        grow_from: progressive resizing (Tan and Le, "EfficientNetV2", ICML 2021, https://arxiv.org/abs/2104.00298): the share
            of its sides that a picture has in the first epoch of training. It grows evenly to 1 in the last.
    """

    net: nn.Module

    def __init__(
        self,
        *,
        loss: str,
        optimizer: str,
        lr: float,
        weight_decay: float,
        schedule: str,
        warmup: float | None = None,
        grow_from: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.grow_from = grow_from
        self.share = 1.0
        self.optimisation: dict[str, Any] = {
            "optimizer": optimizer,
            "lr": lr,
            "weight_decay": weight_decay,
            "schedule": schedule,
            "warmup": warmup,
        }
        self.train_loss, self.train_mae = MeanMetric(), MeanMetric()
        self.val_metrics = age_metrics("val/")
        self.gathered = Gathered()
        self.tested: Predictions | None = None

    def predict(self, batch: Batch) -> AgePrediction:
        """One pass over a batch."""
        raise NotImplementedError

    def months(self, batch: Batch) -> Tensor:
        """Ages for evaluation [B]."""
        return possible(self.predict(batch).months)

    @property
    def head(self) -> AgeHead:
        raise NotImplementedError

    def penalty(self, prediction: AgePrediction, months: Tensor) -> Tensor | float:
        """Added to the training loss."""
        return 0.0

    def objective(self, batch: Batch) -> tuple[AgePrediction, Tensor]:
        """A batch's ages, and what training makes small."""
        with record_function(f"{PHASE}forward"):
            prediction = self.predict(batch)
        return prediction, self.head.loss(prediction, batch.months, self.loss) + self.penalty(prediction, batch.months)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Not once an epoch: the first epoch after a resume has no such hook.
        last = (self.trainer.max_epochs or 1) - 1
        self.share = self.grow_from + (1 - self.grow_from) * self.current_epoch / last if last else 1.0

    def side(self, px: int) -> int:
        """Of a picture whose full side is `px`, as this epoch of training sees it."""
        if not self.training or self.share == 1:
            return px
        return min(px, max(SMALLEST_SIDE, round(px * self.share / SIDE_STEP) * SIDE_STEP))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        prediction, loss = self.objective(batch)
        self.train_loss.update(loss.detach(), len(batch.months))
        self.train_mae.update((prediction.months.detach() - batch.months).abs())
        self.log_dict(self._train_means(), on_step=False, on_epoch=True)
        return loss

    def _train_means(self) -> dict[str, MeanMetric]:
        return {"train/loss": self.train_loss, "train/mae": self.train_mae}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.is_last_batch:
            return
        checkpoint["train_means"] = {}  # of the part of the epoch that is done
        for name, mean in self._train_means().items():
            with mean.sync_context():
                sums = {"mean_value": mean.mean_value, "weight": mean.weight}
                checkpoint["train_means"][name] = {state: value.detach().cpu() for state, value in sums.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, states in checkpoint.get("train_means", {}).items():
            for state, value in states.items():  # the sum of all processes: one takes it
                setattr(self._train_means()[name], state, value if self.trainer.is_global_zero else torch.zeros_like(value))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.val_metrics.update(self.months(batch), batch.months)

    def learnt_weights(self) -> dict[str, Tensor]:
        """Fusion weights that are learnt, logged each epoch as `fusion/NAME`."""
        return {}

    def on_validation_epoch_start(self) -> None:
        # At its end averaged weights are gone again.
        self.log_dict({f"fusion/{name}": weight for name, weight in self.learnt_weights().items()})

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics.compute(), prog_bar=False)
        self.log("val_mae", self.val_metrics["mae"].compute(), prog_bar=True, logger=False)
        self.val_metrics.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        predictions = Predictions(self.months(batch).float(), batch.truth, batch.capitate)
        regions = batch.regions
        if regions is not None and regions.heat is not None:
            peaks = torch.stack([peak(regions.heat[:, i].nan_to_num()) for i in range(len(REGIONS))], dim=1)
            predictions = predictions._replace(boxes=regions.boxes, peaks=peaks, fallback=regions.fallback)
        self.gathered.update(batch.case, predictions)

    def predict_step(self, batch: tuple[Batch, Any], batch_idx: int) -> Tensor:
        return self.months(batch[0])

    def on_test_epoch_end(self) -> None:
        # Still on the device: after the test the module is on the CPU, from which NCCL gathers nothing.
        predictions = self.gathered.compute()
        self.gathered.reset()
        self.tested = predictions._replace(months=predictions.months.reshape(-1))  # torchmetrics squeezes a single one

    def take_predictions(self) -> Predictions:
        """What the last `test` saw, every process's share, in the order of the cases; then forget it."""
        tested, self.tested = self.tested, None
        assert tested is not None
        return tested

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """The parts of the module that are optimised, and the rate of each."""
        return [(self, self.optimisation["lr"])]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        recipe = self.optimisation
        learning = [([p for p in part.parameters() if p.requires_grad], rate) for part, rate in self.learning_rates()]
        learning = [(parameters, rate) for parameters, rate in learning if parameters]
        groups = [{"params": parameters, "lr": rate} for parameters, rate in learning]
        fused = not self.trainer.gradient_clip_val  # which Lightning does not clip under mixed precision
        optimizer = OPTIMIZERS[recipe["optimizer"]](groups, weight_decay=recipe["weight_decay"], fused=fused)
        steps, warmup = int(self.trainer.estimated_stepping_batches), recipe["warmup"]
        schedule: LRScheduler
        if recipe["schedule"] == "onecycle":
            rates = [rate for _, rate in learning]
            rise = WARMUP if warmup is None else warmup
            if rise * steps <= 1:  # it would end as it begins, and torch divides by its length
                rise = 0.0
            schedule = OneCycleLR(optimizer, rates, total_steps=steps, pct_start=rise)
        elif warmup:
            schedule = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup * steps)))
        else:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
