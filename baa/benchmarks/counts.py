"""`counts`: what a training step asks of a GPU. Nothing is timed, and no GPU is needed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from baa.assembly.modules import (
    build_cropper,
    estimator_arguments,
    estimator_module,
    locator_arguments,
    locator_module,
    optimization,
)
from baa.benchmarks.inputs import MEAN_MONTHS, STD_MONTHS
from baa.benchmarks.pairs import Row
from baa.benchmarks.simulated_gpu import GPU, GpuAccelerator, GpuStrategy, SimulatedGpu, simulated_gpu
from baa.config.load import load
from baa.config.schema import Config
from baa.data.augment import Augmentation
from baa.data.batch import Sample
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.modules.base import AgeRegressionModule
from baa.modules.joint import JointModule
from baa.nets.estimator import Estimator
from baa.nets.heads import AgeHead
from baa.nets.locator import Locator, PooledAgeHead
from baa.nets.two_stage import BoneAgeModel
from baa.runtime.preemption import Preemption, SignalHandler
from baa.runtime.weight_average import AverageOfSteps, ExponentialAverage

BATCH, SOURCE_PX, STEPS = 4, 384, 2
NETWORKS, REST = "networks", "rest"

ATTENTION = (
    "crops.cam_method=gradient_x_activation",
    "crops.cam_layers=['8','16']",
    "crops.cam_mode=absolute",
    "crops.cam_smoothing=0.04",
    "crops.box_method=moments",
    "crops.carpal.lowest_mode=true",
)
WAYS = {"locator": "locator", "estimator-boxes": "estimator", "estimator-live": "estimator", "joint": "joint"}
"""Names of the steps that are counted, and their stages."""

WAITS = {"locator": 0, "estimator-boxes": 0, "estimator-live": 1, "joint": 1}
"""Most waits of each step."""

REST_SHARE = 0.1
"""Most kernels beside the networks', as a share of theirs."""


class Step(NamedTuple):
    """What one training step asked of the GPU.

    Args:
        waits: how often the host waited, by reason and place.
        networks: kernels of forward passes, losses, backward passes and optimizer.
        rest: kernels of all else: augmentation, boxes, crops, metrics, averages.
    """

    waits: Counter[str]
    networks: int
    rest: int


def bench() -> Iterator[Row]:
    """Count waits and kernels of a step of the paper's networks; crops by attention."""
    with apart() as process:
        steps = {name: process.submit(count_step, name, ATTENTION) for name in WAYS}
    for name, counted in steps.items():
        step = counted.result()
        waits, share = sum(step.waits.values()), step.rest / step.networks
        yield Row(f"waits-{name}", "times that a step waits for the device", waits, waits, waits, WAITS[name])
        what = f"kernels of the rest / of the networks ({step.rest} / {step.networks})"
        yield Row(f"kernels-{name}", what, share, share, share, REST_SHARE)


def apart() -> ProcessPoolExecutor:
    """A new process for counting: torch knows no new device after its first backward pass."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def count_step(name: str, settings: Sequence[str], augment: Augmentation | None = None) -> Step:
    """Train a few steps with Lightning on a simulated GPU, and count the last.

    Args:
        name: of `WAYS`.
        settings: of networks and crops; `key=value`.
        augment: of the training images; default: the paper's.

    Raises:
        RuntimeError: a step mixes tensors of the host and of the device, or needs numbers for a shape.
    """
    config = load([], settings)
    batches = [_sample() for _ in range(STEPS)]
    with simulated_gpu() as gpu, _phases(gpu), _own_average():
        with torch.device(GPU):
            module, data = _stage(name, config, augment or Augmentation())
        data.train_dataloader = lambda: _Ready(batches)  # type: ignore[assignment, method-assign, return-value]
        counter = _Counter(gpu)
        signals = Preemption(SignalHandler(), Path("last.ckpt"), every=1)
        L.Trainer(
            accelerator=GpuAccelerator(),
            devices=1,
            strategy=GpuStrategy(),
            callbacks=[ExponentialAverage(torch.device(GPU), 0.99), signals, counter],
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, data)
    return counter.steps[-1]


def _stage(name: str, config: Config, augment: Augmentation) -> tuple[AgeRegressionModule, HandDataModule]:
    scale = {"mean_months": MEAN_MONTHS, "std_months": STD_MONTHS}
    locator = locator_arguments(config, **scale)
    settings: dict[str, Any] = {"batch_size": BATCH, "augment": augment, "sex_dropout": 0.1}
    if WAYS[name] == "locator":
        return locator_module(config, locator), HandDataModule({}, **settings)
    cropper = build_cropper(config, Locator(**locator))
    if WAYS[name] == "joint":
        cropper.differentiable = "map"
        c, own = config.joint, config.locator.fit.loss
        model = BoneAgeModel(cropper, Estimator(**estimator_arguments(config, **scale)))
        weights: dict[str, Any] = {"locator_lr": c.locator_lr, "locator_weight": c.locator_weight, "locator_loss": own}
        return JointModule(model, **weights, **optimization(c.fit)), HandDataModule({}, **settings)
    cached = {"train": torch.empty(0)} if name == "estimator-boxes" else None
    return estimator_module(config, estimator_arguments(config, **scale)), CropDataModule(
        {}, cropper, cached_boxes=cached, **settings
    )


def _sample() -> Sample:
    regions = 2
    boxes = torch.tensor([0.2, 0.3, 0.6, 0.7]).expand(BATCH, regions, 4)
    return Sample(
        image=torch.randint(0, 256, (BATCH, 1, SOURCE_PX, SOURCE_PX), dtype=torch.uint8, device="cpu"),
        months=torch.full((BATCH,), 100.0),
        sex=torch.zeros(BATCH, dtype=torch.long),
        case=torch.arange(BATCH),
        gt_boxes=boxes,
        capitate=torch.full((BATCH, 2), 0.5),
        cached_boxes=boxes,
    )


class _Ready:
    """A loader of batches that have been made before."""

    def __init__(self, batches: list[Sample]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Counter(Callback):
    """Keep the counts of each step, from the end of one to the end of the next."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        self.gpu = gpu
        self.steps: list[Step] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.gpu.phase = NETWORKS

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.optimizers[0].register_step_post_hook(lambda *_: setattr(self.gpu, "phase", REST))

    def on_train_batch_end(self, *_: Any) -> None:
        kernels = self.gpu.kernels
        self.steps.append(Step(self.gpu.waits, kernels[NETWORKS], kernels.total() - kernels[NETWORKS]))
        self.gpu.forget()


@contextmanager
def _phases(gpu: SimulatedGpu) -> Iterator[None]:
    """Count what networks and losses compute as theirs; so is all that a backward pass computes."""

    def of_networks(function: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            before, gpu.phase = gpu.phase, NETWORKS
            try:
                return function(*arguments, **named)
            finally:
                gpu.phase = before

        return counted

    gpu.phase, gpu.backward_phase = REST, NETWORKS
    with ExitStack() as patches:
        forward: list[tuple[Any, str]] = [(part, "forward") for part in (Estimator, Locator, PooledAgeHead)]
        first_gradients = (torch.autograd, "_make_grads")
        for owner, name in (*forward, (Locator, "features"), (AgeHead, "loss"), first_gradients):
            patches.enter_context(patch.object(owner, name, of_networks(getattr(owner, name))))
        yield


@contextmanager
def _own_average() -> Iterator[None]:
    """Averages lie where the module does."""

    def build(module: nn.Module, device: Any, *, decay: float) -> AverageOfSteps:
        return AverageOfSteps(module, None, decay=decay)

    with patch("baa.runtime.weight_average.AverageOfSteps", build):
        yield
