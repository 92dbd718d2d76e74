"""A checkpoint alone brings back what made it: module, weights, and the locator whose crops it was trained on."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from baa.checkpoints.bundle import WEIGHTS, read_bundle
from baa.checkpoints.provenance import Lineage
from baa.checkpoints.trained_model import MODULES, Restored, at_rest, own_locator, read_recogniser
from baa.config.load import to_use
from baa.data.datamodules import CropDataModule
from baa.errors import InputError
from baa.nets.cropper import RegionCropper
from baa.nets.locator import Locator

ANOTHER_VERSIONS = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)
"""What comes of networks, or of a record of them, that are not as ours."""


def restore(model: Path, setting: str = "checkpoint") -> Restored:
    """Load a checkpoint of any stage, weights only; or the folder of a bundle.

    Args:
        model: the file, or the folder.
        setting: the name by which the user gave it.

    Raises:
        InputError: no such file, or no checkpoint of this project.
    """
    if model.is_dir():
        return read_bundle(model, setting)
    checkpoint = read_checkpoint(model, setting)
    record, kept = checkpoint["baa"], checkpoint.get(CropDataModule.__qualname__)
    try:
        module = MODULES[record["stage"]](**checkpoint["hyper_parameters"])
        module.load_state_dict(checkpoint["state_dict"])
        locator, arguments = own_locator(module)
        if locator is None and kept is not None:
            arguments = kept["recipe"]["locator"]
            locator = Locator(**arguments)
            RegionCropper(locator, **kept["recipe"]["crops"]).load_state_dict(kept["weights"])
        seen = Lineage(frozenset(record["seen"]), tuple(record["licences"]))
        recogniser = read_recogniser(record.get("recogniser", {}))
        settings, calibration = to_use(record["settings"]), record.get("calibration", {})
    except InputError as error:
        raise InputError(f"{setting}: {model} is of another version of baa: {error}") from error
    except ANOTHER_VERSIONS as error:
        raise InputError(f"{setting}: {model} is of another version of baa, whose networks differ; train it again") from error
    module, locator = at_rest(module), locator and at_rest(locator)
    return Restored(record["stage"], module, locator, arguments, settings, seen, calibration, recogniser)


def read_checkpoint(file: Path, setting: str = "checkpoint") -> dict[str, Any]:
    """The raw content.

    Args:
        file: of a checkpoint.
        setting: the name by which the user gave it.

    Raises:
        InputError: no such file, or no checkpoint of this project.
    """
    if not file.is_file():
        raise InputError(f"{setting}: {file} is not there; a run keeps runs/NAME/STAGE/best.ckpt")
    try:
        checkpoint = torch.load(file, "cpu", weights_only=True)
        known = "baa" in checkpoint and "hyper_parameters" in checkpoint
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{setting}: {file} cannot be read, it may be cut short: {reason}") from error
    if not known:
        raise InputError(f"{setting}: {file} was not written by `python -m baa.fit`")
    return checkpoint


def crop_recipe(model: Path, crops: dict[str, Any]) -> tuple[RegionCropper, dict[str, Any]]:
    """The frozen cropper of a trained locator, and the plain data that rebuilds it and tells which file it came from.

    Args:
        model: a checkpoint or a bundle that holds a locator: its own stage's, or any that reads crops.
        crops: arguments of `RegionCropper`.

    Raises:
        InputError: the model holds none.
    """
    restored = restore(model, "locator.checkpoint")
    if restored.locator is None:
        raise InputError(f"locator.checkpoint: {model} reads the whole hand, it holds no locator")
    recipe = {
        "locator": restored.locator_arguments,
        "crops": crops,
        "file": str(model),
        "sha256": digest(model),
    }
    return RegionCropper(restored.locator, **crops), recipe


def digest(model: Path) -> str:
    """Of the weights of a checkpoint or a bundle, sha256."""
    weights = model / WEIGHTS if model.is_dir() else model
    return hashlib.sha256(weights.read_bytes()).hexdigest()
