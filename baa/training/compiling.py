"""`trainer.compile`: the net compiled, or left as it is where that fails."""

import copy

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info

from baa.data.batch import Batch
from baa.modules.base import AgeModule


class Compile(Callback):
    """`torch.compile` the net before the first step; where that fails, say why in a line and go on without.

    Args:
        batch: of the size to be trained with.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, AgeModule)
        before = copy.deepcopy(pl_module.net.state_dict())
        pl_module.net.compile()
        try:
            with torch.random.fork_rng(), trainer.precision_plugin.train_step_context():
                _, loss = pl_module.objective(move_data_to_device(self.batch, pl_module.device))
            loss.backward()
        except Exception as error:
            pl_module.net._compiled_call_impl = None
            cause = getattr(error, "inner_exception", error)  # torch wraps what the back end raised
            reason = (str(cause).strip().splitlines() or [""])[0]
            rank_zero_info(f"trainer.compile: not used; {type(cause).__name__}: {reason}")
        pl_module.net.load_state_dict(before)  # the trial moved the statistics of the batch norms
        pl_module.zero_grad()
