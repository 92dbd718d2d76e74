"""A model to share: a folder of tensors in half precision and a card. Reading one runs no code of whoever made it."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

import baa
from baa.config import without_places
from baa.data.cache import Radiographs
from baa.errors import InputError
from baa.nets.locator import Locator
from baa.training.callbacks import read_json, write_whole
from baa.training.restored import MODULES, Restored, at_rest, own_locator

WEIGHTS, CARD = "weights.safetensors", "card.json"
PRETRAINED = Path(baa.__file__).parent / "pretrained"
"""The bundle that baa ships."""

FORMAT = 1
MODULE, LOCATOR, SEEN = "module.", "locator.", "seen"
LIMITS = (
    "A research tool, not a medical device: it has not been tried on patients, and nobody may be treated by what it says.",
    "It knows frontal radiographs of one left hand and wrist of children; it does not notice when it is shown anything else.",
)
LICENCES = {"rsna": "Trained on the RSNA Pediatric Bone Age Challenge's data (2017): for non-commercial research use."}
"""What the data of a source demands of a model that was trained on it."""


def write_bundle(folder: Path, model: Restored, cohort: Mapping[str, Radiographs], scores: Mapping[str, Any]) -> None:
    """Write `weights.safetensors` and `card.json`.

    Matrices and kernels lose half their bits; vectors, such as the statistics of batch norms, lose none.

    Args:
        folder: made if need be.
        model: what is shared.
        cohort: the radiographs of each split, to describe them: numbers, sexes, ages; neither ids nor places.
        scores: metrics to tell.
    """
    own, _ = own_locator(model.module)
    tensors = {MODULE + name: _halved(tensor) for name, tensor in model.module.state_dict().items()}
    if model.locator is not None and own is None:
        tensors |= {LOCATOR + name: _halved(tensor) for name, tensor in model.locator.state_dict().items()}
    tensors[SEEN] = torch.tensor(sorted(model.seen), dtype=torch.int64)
    weights = save(tensors)
    source = model.settings["data"]["source"]
    card = {
        "format": FORMAT,
        "what": "Bone age in months from a hand radiograph and the sex, with the two regions that it was read from.",
        "limits": LIMITS,
        "licence": LICENCES.get(source, "As its training data demand."),
        "data": {"source": source} | {split: _described(radiographs) for split, radiographs in cohort.items()},
        "scores": dict(scores),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "stage": model.stage,
        "networks": dict(model.module.hparams),
        "locator": model.locator_arguments,
        "settings": without_places(model.settings),
    }
    write_whole(folder / WEIGHTS, weights)
    write_whole(folder / CARD, json.dumps(card, indent=2))


def _halved(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor.clone()


def _described(radiographs: Radiographs) -> dict[str, Any]:
    months = sorted(case.months for case in radiographs.cases if case.months is not None)
    sexes = Counter(case.sex.name.lower() for case in radiographs.cases)
    described: dict[str, Any] = {"cases": len(radiographs.cases), "sexes": dict(sorted(sexes.items()))}
    if months:
        described["months"] = {"lowest": months[0], "median": months[len(months) // 2], "highest": months[-1]}
    return described


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a bundle.

    Raises:
        InputError: there is none, or it is none of this project's.
    """
    file = folder / CARD
    if not file.is_file():
        raise InputError(
            "this copy of baa ships no model; name a checkpoint, such as runs/NAME/STAGE/best.ckpt"
            if folder == PRETRAINED
            else f"checkpoint: {folder} holds no {CARD}; a run keeps a bundle in runs/NAME/STAGE/bundle"
        )
    try:
        card = read_json(file)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"checkpoint: {file} is no JSON: {error}") from error
    if card.get("format") != FORMAT:
        raise InputError(f"checkpoint: {file} is of format {card.get('format')}; this baa reads {FORMAT}")
    return card


def read_bundle(folder: Path) -> Restored:
    """The model of a bundle, its weights in fp32 again.

    Raises:
        InputError: a file is missing, cut short, or not of this version.
    """
    card, file = read_card(folder), folder / WEIGHTS
    if not file.is_file():
        raise InputError(f"checkpoint: {file} is not there; a bundle is both, {CARD} and {WEIGHTS}")
    weights = file.read_bytes()
    if hashlib.sha256(weights).hexdigest() != card.get("sha256"):
        raise InputError(f"checkpoint: {file} is not what {CARD} beside it was written for, perhaps cut short; copy both again")
    try:
        tensors = load(weights)
        module = MODULES[card["stage"]](**card["networks"])
        module.load_state_dict(_of(MODULE, tensors))
        locator, arguments = own_locator(module)
        if locator is None and card["locator"]:
            arguments = card["locator"]
            locator = Locator(**arguments)
            locator.load_state_dict(_of(LOCATOR, tensors))
        seen = frozenset(tensors[SEEN].tolist())
        module, locator = at_rest(module), locator and at_rest(locator)
        return Restored(card["stage"], module, locator, arguments, card["settings"], seen)
    except (KeyError, RuntimeError, TypeError, SafetensorError) as error:
        raise InputError(f"checkpoint: {folder} is of another version of baa, whose networks differ") from error


def _of(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
