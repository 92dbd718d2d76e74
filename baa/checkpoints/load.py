"""Load a trained model from a checkpoint of Lightning's or from a bundle."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baa.checkpoints.bundle import WEIGHTS, read_bundle
from baa.checkpoints.provenance import Provenance
from baa.checkpoints.trained_model import TrainedModel, Weights, build_model
from baa.config.load import to_use
from baa.errors import InputError

RECORD = "baa"
"""Key of our record in a checkpoint: stage, settings, networks, provenance; and input check and calibration once finished."""

CROPS = "CropDataModule"
"""Key under which Lightning keeps the state of the data module that cut the crops, and with it the locator."""

OTHER_VERSION = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)
"""Errors of networks or records that another version wrote."""


def load_model(path: Path, setting: str = "checkpoint") -> TrainedModel:
    """Load a checkpoint of any stage, weights only; or a bundle.

    Args:
        path: the checkpoint's file, or the bundle's folder.
        setting: the setting or option that named it, for errors.

    Raises:
        InputError: no such file, or no checkpoint of this project.
    """
    if path.is_dir():
        return read_bundle(path, setting)
    return as_model(read_checkpoint(path, setting), path, setting)


def as_model(checkpoint: dict[str, Any], path: Path, setting: str = "checkpoint") -> TrainedModel:
    """Build the model of a checkpoint that has been read.

    Raises:
        InputError: it was written by another version.
    """
    record = checkpoint[RECORD]
    try:
        state, crops = checkpoint["state_dict"], checkpoint.get(CROPS, {})
        weights = Weights(
            locator=_part(state, "locator.") or _part(state, "model.cropper.locator.") or crops.get("locator", {}),
            estimator=_part(state, "model.estimator."),
            input_check=record.get("input_check", {}),
        )
        settings, networks = to_use(record["settings"]), record["networks"]
        return TrainedModel(
            stage=record["stage"],
            model=build_model(networks, settings, weights),
            networks=networks,
            settings=settings,
            provenance=Provenance(frozenset(record["seen_ids"]), tuple(record["licences"])),
            calibration=record.get("calibration", {}),
        )
    except InputError as error:
        raise InputError(f"{setting}: {path} was written by another version of baa: {error}") from error
    except OTHER_VERSION as error:
        raise InputError(
            f"{setting}: {path} was written by another version of baa, whose networks differ; "
            "take the bundle beside it, or train it again"
        ) from error


def read_checkpoint(file: Path, setting: str = "checkpoint") -> dict[str, Any]:
    """Read a checkpoint as Lightning wrote it.

    Args:
        file: of the checkpoint.
        setting: the setting or option that named it, for errors.

    Raises:
        InputError: no such file, or no checkpoint of this project.
    """
    if not file.is_file():
        raise InputError(f"{setting}: {file} does not exist; a run keeps runs/NAME/STAGE/best.ckpt")
    try:
        checkpoint = torch.load(file, "cpu", weights_only=True)
        known = RECORD in checkpoint
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{setting}: {file} cannot be read, it may be cut short: {reason}") from error
    if not known:
        raise InputError(f"{setting}: {file} was not written by `python -m baa.fit`; give runs/NAME/STAGE/best.ckpt")
    return checkpoint


def digest(path: Path) -> str:
    """Return the SHA-256 of the weights of a checkpoint or a bundle."""
    weights = path / WEIGHTS if path.is_dir() else path
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
