"""A model to share: a folder of tensors in half precision and a card. Reading one runs none of its maker's code."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from baa.atomic_io import write_atomic
from baa.checkpoints.provenance import Provenance
from baa.checkpoints.trained_model import TrainedModel, Weights, build_model, weights_of, with_lines
from baa.checkpoints.upgrade import OLD_FORMAT, upgrade_card, upgrade_tensors
from baa.checkpoints.weights_check import refuse_other_shapes
from baa.config.load import as_built, to_share
from baa.data.cache import Radiographs
from baa.data.sources import SOURCES
from baa.errors import InputError
from baa.model_card import CARD, FORMAT, identity, read_card

WEIGHTS = "weights.safetensors"
MAX_WEIGHTS_BYTES = 8 * 2**30
WARNS = "It warns of images that it does not recognize as one whole upright hand. This check makes errors too."
NO_CHECK = "It accepts every image as one whole upright hand, without a warning."
LIMITS = (
    "A research tool, not a medical device: do not treat anybody by its answers.",
    "The weights file shows whether a radiograph that one has was trained on.",
)
BY_ID = (
    "Some of its training radiographs are recorded by id alone: they are not recognized under another id, and others "
    "with equal ids are taken for them."
)
UNRECORDED = "It starts from weights without a record of their training data, SHA-256 {}."


def write_bundle(folder: Path, trained: TrainedModel, splits: Mapping[str, Radiographs], scores: Mapping[str, Any]) -> None:
    """Write `weights.safetensors` and `card.json`.

    Matrices and kernels are stored in half precision; vectors, such as batch norm statistics, in full precision.

    Args:
        folder: made if need be.
        trained: the model.
        splits: radiographs by split; the card has their counts, sexes and ages.
        scores: metrics of the model in full precision, for the card.
    """
    tensors = {
        f"{part}.{name}": _halved(tensor)
        for part, weights in weights_of(trained.model)._asdict().items()
        for name, tensor in weights.items()
    }
    weights = save(tensors | trained.provenance.tensors())
    settings = to_share(trained.settings)
    description = SOURCES[settings["data"]["source"]].description
    card = {
        "format": FORMAT,
        "name": trained.settings["name"],
        "version": version("baa"),
        **describe(trained),
        "data": {"what": description} | {split: _summary(radiographs) for split, radiographs in splits.items()},
        "unrecorded": trained.provenance.unrecorded,
        "scores": {name: value for name, value in scores.items() if not isinstance(value, float) or math.isfinite(value)},
        "calibration": trained.calibration,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "stage": trained.stage,
        "networks": trained.networks,
        "settings": settings,
    }
    write_atomic(folder / WEIGHTS, weights)
    write_atomic(folder / CARD, json.dumps(card, indent=2, allow_nan=False))


def _halved(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor.clone()
    half = tensor.half()
    return half if half.isfinite().all() else tensor.clone()


def describe(trained: TrainedModel, *, checks_input: bool | None = None) -> dict[str, Any]:
    """Describe a model in words: what it returns, its limits, and the licences of its data.

    Args:
        trained: the model.
        checks_input: whether it warns of unrecognized images; default: whether it has an input check.
    """
    if trained.stage == "locator":
        what = "Bone age in months from a whole hand radiograph, and the heat maps from which regions are cut."
    else:
        regions = "" if trained.locator is None else ", and the regions that it was read from"
        what = f"Bone age in months from a hand radiograph and sex{regions}."
    warns = trained.model.input_check is not None if checks_input is None else checks_input
    provenance = trained.provenance
    limits = [LIMITS[0], WARNS if warns else NO_CHECK, *LIMITS[1:]]
    limits += [BY_ID] if provenance.seen_ids else []
    limits += [UNRECORDED.format(digest) for digest in provenance.unrecorded]
    return {"what": what, "limits": limits, "licences": provenance.licences}


def _summary(radiographs: Radiographs) -> dict[str, Any]:
    months = sorted(case.months for case in radiographs.cases if case.months is not None)
    sexes = Counter(case.sex.name.lower() for case in radiographs.cases)
    summary: dict[str, Any] = {"cases": len(radiographs.cases), "sexes": dict(sorted(sexes.items()))}
    if months:
        summary["months"] = {"lowest": months[0], "median": months[len(months) // 2], "highest": months[-1]}
    return summary


def read_bundle(folder: Path, setting: str = "checkpoint") -> TrainedModel:
    """Read the model of a bundle, its weights in fp32 again. Bundles of format 1 are read too.

    Args:
        folder: runs/NAME/STAGE/bundle.
        setting: the setting or option that named it, for errors.

    Raises:
        InputError: a file is missing, cut short, or of another version.
    """
    card, file = read_card(folder, setting), folder / WEIGHTS
    if not file.is_file():
        raise InputError(f"{setting}: {file} does not exist; a bundle is {CARD} and {WEIGHTS} together")
    old = card["format"] == OLD_FORMAT
    try:
        if old:
            card = upgrade_card(card)
        settings = to_share(as_built(card["stage"], card["settings"], card["networks"]))
        _refuse_other_file(card, file, setting, old=old)
        tensors = upgrade_tensors(load_file(file)) if old else load_file(file)
        weights = Weights(*(_part(tensors, f"{part}.") for part in Weights._fields))
        return TrainedModel(
            stage=card["stage"],
            model=with_lines(build_model(card["networks"], settings, weights), card.get("lines", {})),
            networks=card["networks"],
            settings=settings,
            provenance=Provenance.read(tensors, card["licences"], card.get("unrecorded", ())),
            calibration=card.get("calibration", {}),
            identity=identity(card),
            lines=card.get("lines", {}),
        )
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(f"{setting}: ") else f"{setting}: {folder / CARD}: {error}") from error
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{setting}: {folder} was written by another version of baa, whose networks differ; give a bundle of this version"
        ) from error


def _refuse_other_file(card: Mapping[str, Any], file: Path, setting: str, *, old: bool) -> None:
    """Compare the weights file with the card by size, digest and shapes, without loading it.

    Raises:
        InputError: it is another file than the card's.
        RuntimeError, SafetensorError: its tensors are not those of the card's networks.
    """
    size = file.stat().st_size
    if size > MAX_WEIGHTS_BYTES:
        raise InputError(f"{setting}: {file} has {size / 2**30:.1f} GiB; give a bundle of at most {MAX_WEIGHTS_BYTES // 2**30}")
    with file.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != card["sha256"]:
            raise InputError(f"{setting}: {file} does not match {CARD} beside it, it may be cut short; copy both again")
    with safe_open(file, "pt") as tensors:
        found = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    shapes = upgrade_tensors(found) if old else found
    parts = {
        part: {name.removeprefix(f"{part}."): shape for name, shape in shapes.items() if name.startswith(f"{part}.")}
        for part in Weights._fields
    }
    refuse_other_shapes(card["networks"], parts, size)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
