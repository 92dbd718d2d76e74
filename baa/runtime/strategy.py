"""How the processes of a job work together."""

from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed import broadcast


class JobStrategy(DDPStrategy):
    """DDP whose validation needs no process to have as many batches as another.

    Lightning validates through torch's wrapper, which sends the buffers of batch norms from the first process to all others at
    every batch. Each case is judged once (`HandDataModule`), so that one process may have a batch more, and what it sends would
    meet something else. Here they are sent once, before the first batch.
    """

    def validation_step(self, batch: Any, batch_idx: int, *more: Any) -> Any:
        assert self.lightning_module is not None
        if batch_idx == 0:
            self._share_statistics(self.lightning_module)
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(batch, batch_idx, *more)

    @staticmethod
    @torch.no_grad()
    def _share_statistics(module: torch.nn.Module) -> None:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                broadcast(buffer, src=0)
