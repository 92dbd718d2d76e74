"""The card of a model that was trained: what it is, readable without torch."""

import json
from pathlib import Path
from typing import Any

from baa.errors import InputError

CARD = "card.json"
FORMAT = 1
SHIPPED = "pretrained"
"""The name of the model that comes with baa, wherever a checkpoint or a bundle is asked for."""
SHIPPED_IN = Path(__file__).parent / "pretrained"
PARTS = {"stage": str, "settings": dict, "networks": dict, "locator": dict, "licences": list, "sha256": str}

TRAINING = {"locator": ("fit", "erase", "checkpoint"), "crops": ("boxes", "precision"), "estimator": ("fit", "erase")}
"""What the settings of the networks say of how they were trained: not part of them."""


def model_path(model: str) -> Path:
    """Where a model lies that a user named: the one that comes with baa by its name, any other by its path."""
    return SHIPPED_IN if model == SHIPPED else Path(model)


def read_card(folder: Path, setting: str = "checkpoint") -> dict[str, Any]:
    """The card of a bundle.

    Args:
        folder: runs/NAME/STAGE/bundle.
        setting: the name by which the user gave it.

    Raises:
        InputError: there is none, or it is none of this project's.
    """
    file = folder / CARD
    if not file.is_file():
        raise InputError(f"{setting}: {folder} holds no {CARD}; a run keeps a bundle in runs/NAME/STAGE/bundle")
    try:
        card = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{setting}: {file} is no JSON: {error}") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else "none"
        raise InputError(f"{setting}: {file} is of format {found}; this baa reads {FORMAT}")
    if wrong := [name for name, kind in PARTS.items() if not isinstance(card.get(name), kind)]:
        raise InputError(f"{setting}: {file} has no {wrong[0]} that this baa can read; copy the bundle again")
    return card


def networks_of(card: dict[str, Any]) -> dict[str, Any]:
    """The settings of the networks and of the crops between them, to begin a run with: without how they were trained."""
    return {
        group: {name: value for name, value in card["settings"].get(group, {}).items() if name not in left_out}
        for group, left_out in TRAINING.items()
    }
