"""A model to share: a folder of tensors in half precision and a card. Reading one runs no code of whoever made it."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from baa.atomic_io import write_whole
from baa.checkpoints.provenance import Lineage
from baa.checkpoints.trained_model import MODULES, Restored, at_rest, own_locator, read_recogniser
from baa.config.load import to_share
from baa.data.cache import Radiographs
from baa.errors import InputError
from baa.model_card import CARD, FORMAT, read_card
from baa.nets.locator import Locator

WEIGHTS = "weights.safetensors"
MODULE, LOCATOR, RECOGNISER, SEEN = "module.", "locator.", "recogniser.", "seen"
WARNS = "It warns of what it does not take for one whole upright hand, and may be wrong in that too."
WARNS_OF_NOTHING = "It takes whatever it is shown for one whole upright hand, and warns of nothing."
LIMITS = (
    "A research tool, not a medical device: nobody may be treated by what it says.",
    "Whether an id that can be guessed was trained on can be told from the weights file.",
)
DATA = {
    "phantom": "synthetic hands: of use on nothing else",
    "rsna": "frontal radiographs of left hands and wrists of children, RSNA Pediatric Bone Age Challenge (2017)",
    "table": "radiographs of its maker's",
}


def write_bundle(folder: Path, model: Restored, cohort: Mapping[str, Radiographs], scores: Mapping[str, Any]) -> None:
    """Write `weights.safetensors` and `card.json`.

    Matrices and kernels lose half their bits; vectors, such as the statistics of batch norms, lose none.

    Args:
        folder: made if need be.
        model: what is shared.
        cohort: the radiographs of each split, whose numbers, sexes and ages the card tells.
        scores: metrics of the model in full precision, to tell.
    """
    own, _ = own_locator(model.module)
    tensors = {MODULE + name: _halved(tensor) for name, tensor in model.module.state_dict().items()}
    if model.locator is not None and own is None:
        tensors |= {LOCATOR + name: _halved(tensor) for name, tensor in model.locator.state_dict().items()}
    if model.recogniser is not None:
        tensors |= {RECOGNISER + name: _halved(tensor) for name, tensor in model.recogniser.state_dict().items()}
    tensors[SEEN] = torch.tensor(sorted(model.lineage.seen), dtype=torch.int64)
    weights = save(tensors)
    settings = to_share(model.settings)
    source = settings["data"]["source"]
    card = {
        "format": FORMAT,
        **describe(model),
        "data": {"what": DATA[source]} | {split: _described(radiographs) for split, radiographs in cohort.items()},
        "scores": {name: value for name, value in scores.items() if not isinstance(value, float) or math.isfinite(value)},
        "calibration": model.calibration,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "stage": model.stage,
        "networks": dict(model.module.hparams),
        "locator": model.locator_arguments,
        "settings": settings,
    }
    write_whole(folder / WEIGHTS, weights)
    write_whole(folder / CARD, json.dumps(card, indent=2, allow_nan=False))


def _halved(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return tensor.clone()
    half = tensor.half()
    return half if half.isfinite().all() else tensor.clone()


def describe(model: Restored) -> dict[str, Any]:
    """In words: what a model answers, what it is not, and what its data's owners ask."""
    if model.stage == "locator":
        what = "Bone age in months from a whole hand radiograph, and the heat maps that two regions are cut by."
    else:
        regions = "" if model.locator is None else ", and the two regions that it was read from"
        what = f"Bone age in months from a hand radiograph and the sex{regions}."
    limits = (LIMITS[0], WARNS if model.recogniser is not None else WARNS_OF_NOTHING, *LIMITS[1:])
    return {"what": what, "limits": limits, "licences": model.lineage.licences}


def _described(radiographs: Radiographs) -> dict[str, Any]:
    months = sorted(case.months for case in radiographs.cases if case.months is not None)
    sexes = Counter(case.sex.name.lower() for case in radiographs.cases)
    described: dict[str, Any] = {"cases": len(radiographs.cases), "sexes": dict(sorted(sexes.items()))}
    if months:
        described["months"] = {"lowest": months[0], "median": months[len(months) // 2], "highest": months[-1]}
    return described


def read_bundle(folder: Path, setting: str = "checkpoint") -> Restored:
    """The model of a bundle, its weights in fp32 again.

    Args:
        folder: runs/NAME/STAGE/bundle.
        setting: the name by which the user gave it.

    Raises:
        InputError: a file is missing, cut short, or not of this version.
    """
    card, file = read_card(folder, setting), folder / WEIGHTS
    if not file.is_file():
        raise InputError(f"{setting}: {file} is not there; a bundle is both, {CARD} and {WEIGHTS}")
    weights = file.read_bytes()
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise InputError(f"{setting}: {file} is not what {CARD} beside it was written for, perhaps cut short; copy both again")
    try:
        tensors = load(weights)
        module = MODULES[card["stage"]](**card["networks"])
        module.load_state_dict(_of(MODULE, tensors))
        locator, arguments = own_locator(module)
        if locator is None and card["locator"]:
            arguments = card["locator"]
            locator = Locator(**arguments)
            locator.load_state_dict(_of(LOCATOR, tensors))
        recogniser = read_recogniser(_of(RECOGNISER, tensors))
        origin = Lineage(frozenset(tensors[SEEN].tolist()), tuple(card["licences"]))
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"{setting}: {folder} is of another version of baa, whose networks differ") from error
    module, locator = at_rest(module), locator and at_rest(locator)
    settings, calibration = to_share(card["settings"]), card.get("calibration", {})
    return Restored(card["stage"], module, locator, arguments, settings, origin, calibration, recogniser)


def _of(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
