"""The card of a trained model: its description as JSON, readable without torch."""

import json
from pathlib import Path
from typing import Any

from baa.errors import InputError

CARD = "card.json"
FORMAT = 2
FORMATS = (1, FORMAT)
"""Format that is written, and formats that are read."""

SHIPPED = "pretrained"
"""Name of the model that is part of this package; valid wherever a checkpoint or bundle is expected."""

SHIPPED_IN = Path(__file__).parent / "pretrained"
PARTS = {"stage": str, "settings": dict, "networks": dict, "licences": list, "sha256": str}

TRAINING = {
    "locator": ("fit", "random_erasing_p", "checkpoint"),
    "crops": ("boxes", "precision"),
    "estimator": ("fit", "random_erasing_p"),
}
"""Settings of these groups that describe the training, not the networks."""


def model_path(model: str) -> Path:
    """The path of a model: the packaged model by its name, any other model by its path."""
    return SHIPPED_IN if model == SHIPPED else Path(model)


def read_card(folder: Path, setting: str = "checkpoint") -> dict[str, Any]:
    """Read the card of a bundle.

    Args:
        folder: the bundle, runs/NAME/STAGE/bundle.
        setting: the setting that names the bundle, for error messages.

    Raises:
        InputError: there is no card, or this version cannot read it.
    """
    file = folder / CARD
    if not file.is_file():
        raise InputError(f"{setting}: {folder} has no {CARD}; give a bundle, such as runs/NAME/STAGE/bundle")
    try:
        card = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{setting}: {file} is not valid JSON ({error}); copy the bundle again") from error
    if not isinstance(card, dict) or card.get("format") not in FORMATS:
        found = card.get("format") if isinstance(card, dict) else "none"
        raise InputError(
            f"{setting}: {file} has format {found}, but this version of baa reads format {FORMAT}; copy a matching bundle"
        )
    if wrong := [name for name, kind in PARTS.items() if not isinstance(card.get(name), kind)]:
        raise InputError(f"{setting}: {file} has no valid {wrong[0]}; copy the bundle again")
    return card


def networks_of(card: dict[str, Any]) -> dict[str, Any]:
    """The settings of the networks and crops, without those of their training, to start a run from."""
    return {
        group: {name: value for name, value in card["settings"].get(group, {}).items() if name not in left_out}
        for group, left_out in TRAINING.items()
    }


def has_locator(card: dict[str, Any]) -> bool:
    """Return whether the model of a card has a locator, in any format."""
    return bool(card.get("locator")) or "locator" in card["networks"]
