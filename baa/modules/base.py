"""What all stages share under Lightning: training and validation steps, metrics, optimizer."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from baa.data.batch import Batch
from baa.metrics.ages import age_metrics
from baa.metrics.epoch_mean import EpochMean
from baa.nets.heads import AgeHead, AgePrediction, clamp_to_age_range

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
WARMUP = 0.3


class AgeRegressionModule(L.LightningModule):
    """Batch to ages in months, and their loss. A stage defines `predict`, `head` and, if need be, more.

    Args:
        loss: `mse`, `l1` or `smooth_l1`.
        optimizer, lr, weight_decay: `adam` or `adamw` and its settings.
        schedule: `constant`, or `onecycle` over the whole fit.
        warmup: share of the steps in which the learning rate rises; None for 0 of a constant one and `WARMUP` of one cycle.
        progressive_resize_from: share of the image side in the first epoch; it grows to 1 in the last (Tan and Le,
            "EfficientNetV2", ICML 2021, https://arxiv.org/abs/2104.00298).
    """

    def __init__(
        self,
        *,
        loss: str,
        optimizer: str,
        lr: float,
        weight_decay: float,
        schedule: str,
        warmup: float | None = None,
        progressive_resize_from: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.progressive_resize_from = progressive_resize_from
        self.scale = 1.0
        self.train_loss, self.train_mae = EpochMean(), EpochMean()
        self.val_metrics = age_metrics("val/")

    def predict(self, batch: Batch) -> AgePrediction:
        """Estimate the ages of a batch; in training at `self.scale` of the image sides."""
        raise NotImplementedError

    @property
    def head(self) -> AgeHead:
        """The head whose loss is trained."""
        raise NotImplementedError

    def penalty(self, prediction: AgePrediction, months: Tensor) -> Tensor | float:
        """Return what is added to the training loss."""
        return 0.0

    def objective(self, batch: Batch) -> tuple[AgePrediction, Tensor]:
        """Compute the ages of a batch and its training loss."""
        prediction = self.predict(batch)
        loss, penalty = self.head.loss(prediction, batch.months, self.loss), self.penalty(prediction, batch.months)
        return prediction, loss + penalty if isinstance(penalty, Tensor) else loss

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Not once an epoch: the first epoch after a resume has no such hook.
        last, first = (self.trainer.max_epochs or 1) - 1, self.progressive_resize_from
        self.scale = first + (1 - first) * self.current_epoch / last if last else 1.0

    def on_validation_start(self) -> None:
        self.scale = 1.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        prediction, loss = self.objective(batch)
        cases = len(batch.months)
        self.train_loss.update(loss.detach(), cases)
        self.train_mae.update(F.l1_loss(prediction.months.detach(), batch.months), cases)
        self.log_dict(self._train_means(), on_step=False, on_epoch=True)
        return loss

    def _train_means(self) -> dict[str, EpochMean]:
        return {"train/loss": self.train_loss, "train/mae": self.train_mae}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.is_last_batch:
            return
        checkpoint["train_means"] = {}  # of the epoch so far
        for name, mean in self._train_means().items():
            with mean.sync_context():
                checkpoint["train_means"][name] = {"total": mean.total.cpu(), "cases": mean.cases.cpu()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, states in checkpoint.get("train_means", {}).items():
            for state, value in states.items():  # the sum over all processes: one process takes it
                setattr(self._train_means()[name], state, value if self.trainer.is_global_zero else torch.zeros_like(value))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.val_metrics.update(clamp_to_age_range(self.predict(batch).months), batch.months)

    def learned_weights(self) -> dict[str, Tensor]:
        """Return the fusion weights that are trained; logged each epoch as `fusion/NAME`."""
        return {}

    def on_validation_epoch_start(self) -> None:
        # Not at its end: averaged weights have been swapped out by then.
        self.log_dict({f"fusion/{name}": weight for name, weight in self.learned_weights().items()})

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.val_metrics.compute(), prog_bar=False)
        self.log("val_mae", self.val_metrics["mae"].compute(), prog_bar=True, logger=False)
        self.val_metrics.reset()

    def learning_rates(self) -> list[tuple[nn.Module, float]]:
        """Return the parts of the module that are optimized, and the learning rate of each."""
        return [(self, self.lr)]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        learning = [([p for p in part.parameters() if p.requires_grad], rate) for part, rate in self.learning_rates()]
        learning = [(parameters, rate) for parameters, rate in learning if parameters]
        groups = [{"params": parameters, "lr": rate} for parameters, rate in learning]
        fused = not self.trainer.gradient_clip_val  # Lightning does not clip a fused optimizer in mixed precision
        optimizer = OPTIMIZERS[self.optimizer](groups, weight_decay=self.weight_decay, fused=fused)
        steps, warmup = int(self.trainer.estimated_stepping_batches), self.warmup
        scheduler: LRScheduler
        if self.schedule == "onecycle":
            rise = WARMUP if warmup is None else warmup
            if rise * steps <= 1:  # a rise of one step has no length, by which torch divides
                rise = 0.0
            scheduler = OneCycleLR(optimizer, [rate for _, rate in learning], total_steps=steps, pct_start=rise)
        elif warmup:
            scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup * steps)))
        else:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
