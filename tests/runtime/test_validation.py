"""Validation under `JobStrategy`: only the batch norm statistics are sent, once."""

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class BatchNormModule(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.validated = 0

    def training_step(self, batch, batch_idx):
        return self.net(batch).mean()

    def validation_step(self, batch, batch_idx):
        self.validated += len(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def job():
    """A trainer of a job of one process; its process group is destroyed afterward."""
    from baa.runtime.distributed import JobStrategy

    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    yield L.Trainer(accelerator="cpu", devices=1, strategy=JobStrategy(), max_epochs=2, num_sanity_val_steps=0, **quiet)
    torch.distributed.destroy_process_group()


def test_statistics_are_broadcast_once_per_validation(job, monkeypatch):
    from baa.runtime import distributed

    evaluated_by_wrapper, sent = [], []
    forward = DistributedDataParallel.forward

    def counted(self, *inputs, **more):
        if not self.module.training:
            evaluated_by_wrapper.append(inputs)
        return forward(self, *inputs, **more)

    monkeypatch.setattr(DistributedDataParallel, "forward", counted)
    monkeypatch.setattr(distributed, "broadcast", lambda buffer, src: sent.append((src, buffer.shape)))
    module = BatchNormModule()
    train, val = (torch.utils.data.DataLoader(torch.rand(count, 3), batch_size=4) for count in (8, 10))
    job.fit(module, train, val)

    assert module.validated == 2 * 10
    assert not evaluated_by_wrapper
    assert sent == 2 * [(0, torch.Size([4]))] * 2  # mean and variance, in each of two epochs
