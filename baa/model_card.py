"""The card of a trained model: its description as JSON, readable without torch. Cards of others are data to be checked."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from baa.errors import InputError
from baa.patient import MAX_MONTHS, Sex

CARD = "card.json"
FORMAT = 2
FORMATS = (1, FORMAT)
"""Format that is written, and formats that are read."""

SHIPPED = "pretrained"
"""Name of the model that is part of this package; valid wherever a checkpoint or bundle is expected."""

SHIPPED_IN = Path(__file__).parent / "pretrained"
PARTS = {"stage": str, "settings": dict, "networks": dict, "licences": list, "sha256": str}

MAX_CARD_BYTES = 16 * 2**20
MAX_DEPTH = 12
DIGITS = 12
MOST_SHIFT = 60.0
MAX_TEXT = 4000
MAX_INTEGER = 2**63
INTERPOLATION = "${"
"""What OmegaConf would resolve, for example to the value of an environment variable."""

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
    """Read the card of a bundle and check that it holds plain data. Settings and networks are checked when they are used.

    Args:
        folder: the bundle, runs/NAME/STAGE/bundle.
        setting: the setting that names the bundle, for error messages.

    Raises:
        InputError: there is no card, or this version cannot read it.
    """
    file = folder / CARD
    if not file.is_file():
        raise InputError(f"{setting}: {folder} has no {CARD}; give a bundle, such as runs/NAME/STAGE/bundle")
    if file.stat().st_size > MAX_CARD_BYTES:
        raise InputError(f"{setting}: {file} has more than {MAX_CARD_BYTES // 2**20} MiB; copy the bundle again")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"{setting}: {file} is not valid JSON ({reason}); copy the bundle again") from error
    if not isinstance(card, dict) or card.get("format") not in FORMATS:
        found = card.get("format") if isinstance(card, dict) else "none"
        found = found if isinstance(found, int) else "none"
        raise InputError(
            f"{setting}: {file} has format {found}, but this version of baa reads format {FORMAT}; copy a matching bundle"
        )
    if wrong := [name for name, kind in PARTS.items() if not isinstance(card.get(name), kind)]:
        raise InputError(f"{setting}: {file} has no valid {wrong[0]}; copy the bundle again")
    if problem := next(problems(card), None):
        raise InputError(f"{setting}: {file}: {problem}; ask its author for another bundle")
    return card


def problems(description: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong in the description of a model, a card or the record of a checkpoint: `part: what is wrong`."""
    for key, value, depth in _values(description):
        if depth > MAX_DEPTH:
            yield f"{key}: nested more than {MAX_DEPTH} deep"
            return
        if problem := _not_plain(value):
            yield f"{key}: {problem}"
    if not all(isinstance(text, str) for text in description.get("licences", ())):
        yield "licences: not a list of texts"
    for part in ("name", "version"):
        if not isinstance(description.get(part, ""), str):
            yield f"{part}: not a text"
    if not re.fullmatch("[0-9a-f]{64}", description.get("sha256", "0" * 64)):
        yield "sha256: not 64 hexadecimal digits"
    lines = description.get("lines", {})
    if not (isinstance(lines, dict) and all(map(_is_line, lines.items()))):
        yield "lines: not shift and slope by sex"
    calibration = description.get("calibration", {})
    if not isinstance(calibration, dict):
        yield "calibration: not a table of errors by group"
        return
    for group, errors in calibration.items():
        numbers = isinstance(errors, list) and all(type(error) in (int, float) for error in errors)
        if not (numbers and all(0 <= error <= MAX_MONTHS for error in errors) and errors == sorted(errors)):
            yield f"calibration.{group}: not a rising list of errors between 0 and {MAX_MONTHS:g} months"


def _is_line(item: tuple[str, Any]) -> bool:
    """Whether an entry is a sex with a shift in months and a slope that a reader may have."""
    sex, line = item
    numbers = isinstance(line, list) and len(line) == 2 and all(type(number) in (int, float) for number in line)
    return sex.upper() in Sex.__members__ and numbers and abs(line[0]) <= MOST_SHIFT and 0.5 <= line[1] <= 2


def _values(description: Mapping[str, Any]) -> Iterator[tuple[str, Any, int]]:
    """Every key and value below, as (dotted key, value, depth), without recursion."""
    left: list[tuple[str, Any, int]] = [("", dict(description), 0)]
    while left:
        key, value, depth = left.pop()
        if key:
            yield key, value, depth
        if isinstance(value, dict):
            for name, below in value.items():
                safe = name if isinstance(name, str) and not _not_plain(name) else "?"
                if safe == "?":
                    yield f"{key}.{safe}".lstrip("."), name if isinstance(name, str) else object(), depth
                left.append((f"{key}.{safe}".lstrip("."), below, depth + 1))
        elif isinstance(value, list | tuple):
            left += [(key, below, depth + 1) for below in value]


def _not_plain(value: Any) -> str | None:
    if isinstance(value, str):
        if INTERPOLATION in value:
            return f"a text with {INTERPOLATION}, which would be resolved; a model's description holds plain values"
        if len(value) > MAX_TEXT:
            return f"a text of more than {MAX_TEXT} characters"
        return None if value.replace("\n", " ").isprintable() else "a text with characters that are not printable"
    if isinstance(value, bool | None | dict | list | tuple):
        return None
    if isinstance(value, int):
        return None if abs(value) < MAX_INTEGER else "a number of more than 63 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not a finite number"
    return f"a {type(value).__name__}, which is no plain value"


def identity(card: Mapping[str, Any]) -> str:
    """Name a model by name, version and the first digits of its weights' SHA-256."""
    return " ".join(filter(None, [card.get("name"), card.get("version"), f"sha256:{card['sha256'][:DIGITS]}"]))


def networks_of(card: dict[str, Any]) -> dict[str, Any]:
    """The settings of the networks and crops, without those of their training, to start a run from."""
    return {
        group: {name: value for name, value in card["settings"].get(group, {}).items() if name not in left_out}
        for group, left_out in TRAINING.items()
    }


def has_locator(card: dict[str, Any]) -> bool:
    """Return whether the model of a card has a locator, in any format."""
    return bool(card.get("locator")) or "locator" in card["networks"]
