"""A checkpoint alone brings back what made it: module, weights, and the locator whose crops it was trained on."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch

from baa.data.modules import CropDataModule
from baa.errors import InputError
from baa.nets.locator import Locator
from baa.nets.regions import RegionCropper
from baa.training.modules import AgeModule, EstimatorModule, LocatorModule

MODULES: dict[str, type[LocatorModule] | type[EstimatorModule]] = {
    "locator": LocatorModule,
    "estimator": EstimatorModule,
}


class Restored(NamedTuple):
    """What a checkpoint holds: its stage, the module in eval mode, the crops it needs (or None), the run's settings."""

    stage: str
    module: AgeModule
    cropper: RegionCropper | None
    settings: dict[str, Any]


def restore(file: Path) -> Restored:
    """Load a checkpoint of either stage, weights only.

    Raises:
        InputError: no such file, or no checkpoint of this project.
    """
    checkpoint = read_checkpoint(file)
    settings, stage = checkpoint["baa"]["settings"], checkpoint["baa"]["stage"]
    module = MODULES[stage](**checkpoint["hyper_parameters"])
    module.load_state_dict(checkpoint["state_dict"])
    kept = checkpoint.get(CropDataModule.__qualname__)
    cropper = None
    if kept is not None:
        cropper = build_cropper(kept["recipe"]["locator"], kept["recipe"]["crops"])
        cropper.load_state_dict(kept["weights"])
    return Restored(stage, module.eval(), cropper, settings)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """The raw content.

    Raises:
        InputError: no such file, or no checkpoint of this project.
    """
    if not file.is_file():
        raise InputError(f"checkpoint: {file} is not a file; a run keeps runs/NAME/STAGE/best.ckpt")
    try:
        checkpoint = torch.load(file, "cpu", weights_only=True)
        known = "baa" in checkpoint and "hyper_parameters" in checkpoint
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"checkpoint: {file} cannot be read, it may be cut short: {reason}") from error
    if not known:
        raise InputError(f"checkpoint: {file} was not written by `python -m baa.fit`")
    return checkpoint


def build_cropper(locator: dict[str, Any], crops: dict[str, Any]) -> RegionCropper:
    """A cropper with random weights from the arguments of `Locator` and of `RegionCropper`."""
    return RegionCropper(Locator(**locator), **crops)


def crop_recipe(locator_file: Path, crops: dict[str, Any]) -> tuple[RegionCropper, dict[str, Any]]:
    """The frozen cropper of a trained locator, and the plain data that rebuilds it and tells which file it came from.

    Raises:
        InputError: the file is no locator's checkpoint.
    """
    restored = restore(locator_file)
    if not isinstance(restored.module, LocatorModule):
        raise InputError(f"locator.checkpoint: {locator_file} is a checkpoint of the {restored.stage}, not of a locator")
    recipe = {
        "locator": dict(restored.module.hparams["net"]),
        "crops": crops,
        "file": str(locator_file),
        "sha256": hashlib.sha256(locator_file.read_bytes()).hexdigest(),
    }
    return RegionCropper(restored.module.net, **crops), recipe
