"""What a stage's settings leave to the machine, settled before it trains."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from baa.assembly.modules import crop_arguments
from baa.assembly.trainer import AUTO, FULL, HALF, compute_device
from baa.checkpoints.load import crop_recipe
from baa.config.load import load, to_plain
from baa.config.schema import Config, Optimisation
from baa.config.validate import STAGES
from baa.data.batch import Batch
from baa.modules.base import AgeModule
from baa.training.initial_weights import cuts_crops, locator_file
from baa.training.precision import choose_precision, looks, training_step
from baa.training.resume import Begun


def settled(stage: str, config: Config, module: AgeModule, fit: Optimisation, begun: Begun | None) -> Config:
    """The config with what `auto` stands for as precisions: those of the run that is resumed, else the faster ones here.

    Args:
        stage: that is to be trained.
        config: of the run.
        module: of the stage.
        fit: the stage's optimisation.
        begun: where the stage goes on, None if it has not begun.
    """
    folder, trainer, crops = config.folder / stage, config.trainer, config.crops
    if begun is not None:
        former = load(None, base=begun.settings)
        trainer = replace(trainer, precision=former.trainer.precision) if trainer.precision == AUTO else trainer
        crops = replace(crops, precision=former.crops.precision) if crops.precision == AUTO else crops
    device = compute_device(config)
    settings = to_plain(config)
    of = {"device": device.type, "source_px": config.data.source_px, "crops_px": crops.px}
    networks = {name: settings[name] for name in STAGES[: STAGES.index(stage) + 1]}
    fastest = partial(choose_precision, device=device, of=of | networks)
    if trainer.precision == AUTO:
        work = partial(_training_step, config, module, fit, device)
        chosen = FULL if trainer.deterministic else fastest(work, file=folder / "precision.json", what="training")
        trainer = replace(trainer, precision=chosen)
    if stage == "joint":
        crops = replace(crops, precision=HALF if trainer.precision == HALF else FULL)  # its looks compute as all that learns
    elif crops.precision == AUTO and cuts_crops(stage, config):
        work = partial(_looks, config, fit, device)
        chosen = FULL if trainer.deterministic else fastest(work, file=folder / "looks.json", what="the looks")
        crops = replace(crops, precision=chosen)
    return replace(config, trainer=trainer, crops=crops)


def _training_step(config: Config, module: AgeModule, fit: Optimisation, device: torch.device) -> Callable[[], Tensor]:
    return training_step(module, noise(config, fit), device)


def _looks(config: Config, fit: Optimisation, device: torch.device) -> Callable[[], Tensor]:
    cropper, _ = crop_recipe(locator_file(config), crop_arguments(config))
    return looks(cropper.locator, noise(config, fit), device)


def noise(config: Config, fit: Optimisation) -> Batch:
    """A batch of the size to be trained with, of no radiographs."""
    return Batch.of_noise(fit.batch_size, config.data.source_px, config.crops.px)
