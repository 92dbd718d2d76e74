"""Load a trained model from a checkpoint of Lightning's or from a bundle."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from baa.checkpoints.bundle import WEIGHTS, read_bundle
from baa.checkpoints.provenance import Provenance
from baa.checkpoints.trained_model import TrainedModel, Weights, build_model
from baa.checkpoints.weights_check import refuse_other_shapes
from baa.config.load import as_built, to_use
from baa.errors import InputError
from baa.model_card import CARD, identity, problems
from baa.torch_file import read_torch_file

RECORD = "baa"
"""Key of our record in a checkpoint: stage, settings, networks, provenance; and input check and calibration once finished."""

CROPS = "CropDataModule"
"""Key under which Lightning keeps the state of the data module that cut the crops, and with it the locator."""

PLAIN = ("stage", "settings", "networks", "licences", "calibration", "unrecorded")
"""Parts of the record that are no tensors."""

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
    try:
        record = checkpoint[RECORD]
        if problem := next(problems({name: record[name] for name in PLAIN if name in record}), None):
            raise InputError(problem)
        state, crops = checkpoint["state_dict"], checkpoint.get(CROPS, {})
        weights = Weights(
            locator=_part(state, "locator.") or _part(state, "model.cropper.locator.") or crops.get("locator", {}),
            estimator=_part(state, "model.estimator."),
            input_check=record.get("input_check", {}),
        )
        networks = record["networks"]
        settings = to_use(as_built(record["stage"], record["settings"], networks))
        shapes = {part: {name: tensor.shape for name, tensor in state.items()} for part, state in weights._asdict().items()}
        refuse_other_shapes(networks, shapes, path.stat().st_size)
        return TrainedModel(
            stage=record["stage"],
            model=build_model(networks, settings, weights),
            networks=networks,
            settings=settings,
            provenance=provenance_of(record),
            calibration=record.get("calibration", {}),
            identity=identity({"name": record["settings"]["name"], "sha256": digest(path)}),
        )
    except InputError as error:
        raise InputError(f"{setting}: {path} cannot be used: {error}; give the bundle beside it, or train again") from error
    except OTHER_VERSION as error:
        raise InputError(
            f"{setting}: {path} was written by another version of baa, whose networks differ; "
            "give the bundle beside it, or train again"
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
        raise InputError(f"{setting}: {file} does not exist; give runs/NAME/STAGE/best.ckpt")
    checkpoint = read_torch_file(file, setting)
    if not (isinstance(checkpoint, dict) and isinstance(checkpoint.get(RECORD), dict)):
        raise InputError(f"{setting}: {file} was not written by `python -m baa.fit`; give runs/NAME/STAGE/best.ckpt")
    return checkpoint


def provenance_of(record: Mapping[str, Any]) -> Provenance:
    """Read the provenance in the record of a checkpoint."""
    return Provenance.read(record, record["licences"], record.get("unrecorded", ()))


def file_provenance(file: Path) -> Provenance:
    """Provenance of a weights file of any origin. One that is no checkpoint or bundle of this project is `unrecorded`."""
    if file.name == WEIGHTS and (file.parent / CARD).is_file():
        return read_bundle(file.parent, str(file)).provenance
    if file.suffix != ".safetensors":
        loaded = read_torch_file(file, "weights")
        if isinstance(loaded, dict) and isinstance(record := loaded.get(RECORD), dict):
            return provenance_of(record)
    return Provenance(unrecorded=(digest(file),))


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, such as a checkpoint, or of the weights of a bundle."""
    weights = path / WEIGHTS if path.is_dir() else path
    with weights.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
