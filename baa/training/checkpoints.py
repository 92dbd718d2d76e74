"""A checkpoint alone brings back what made it: module, weights, and the locator whose crops it was trained on."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch

from baa.data.modules import CropDataModule
from baa.errors import InputError
from baa.nets.locator import Locator
from baa.nets.regions import RegionCropper
from baa.training.joint import JointModule
from baa.training.modules import AgeModule, EstimatorModule, LocatorModule

MODULES: dict[str, type[AgeModule]] = {
    "locator": LocatorModule,
    "estimator": EstimatorModule,
    "joint": JointModule,
}


class Restored(NamedTuple):
    """What a checkpoint holds.

    stage; module in eval mode; locator whose crops it reads (its own if it has one, None for the whole hand), and the
    arguments that build it; settings of the run; digests of the ids that it has seen.
    """

    stage: str
    module: AgeModule
    locator: Locator | None
    locator_arguments: dict[str, Any]
    settings: dict[str, Any]
    seen: frozenset[int]


def restore(file: Path) -> Restored:
    """Load a checkpoint of any stage, weights only.

    Raises:
        InputError: no such file, or no checkpoint of this project.
    """
    checkpoint = read_checkpoint(file)
    record = checkpoint["baa"]
    try:
        module = MODULES[record["stage"]](**checkpoint["hyper_parameters"])
        module.load_state_dict(checkpoint["state_dict"])
    except (KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"checkpoint: {file} is of another version of baa, whose networks differ; train it again") from error
    kept, locator, arguments = checkpoint.get(CropDataModule.__qualname__), None, {}
    if isinstance(module, LocatorModule):
        locator, arguments = module.net, module.hparams["net"]
    elif isinstance(module, JointModule):
        locator, arguments = module.cropper.locator, module.hparams["locator"]
    elif kept is not None:
        arguments = kept["recipe"]["locator"]
        locator = Locator(**arguments)
        RegionCropper(locator, **kept["recipe"]["crops"]).load_state_dict(kept["weights"])
    return Restored(record["stage"], module.eval(), locator, dict(arguments), record["settings"], frozenset(record["seen"]))


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


def crop_recipe(locator_file: Path, crops: dict[str, Any]) -> tuple[RegionCropper, dict[str, Any]]:
    """The frozen cropper of a trained locator, and the plain data that rebuilds it and tells which file it came from.

    Raises:
        InputError: the file is no checkpoint of a locator, alone or trained jointly.
    """
    restored = restore(locator_file)
    if restored.locator is None or isinstance(restored.module, EstimatorModule):
        raise InputError(f"locator.checkpoint: {locator_file} is a checkpoint of the {restored.stage}, not of a locator")
    recipe = {
        "locator": restored.locator_arguments,
        "crops": crops,
        "file": str(locator_file),
        "sha256": hashlib.sha256(locator_file.read_bytes()).hexdigest(),
    }
    return RegionCropper(restored.locator, **crops), recipe
