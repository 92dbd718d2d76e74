"""A run's folder belongs to its settings: what may change when the run goes on, and what may not."""

import itertools
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from baa.checks import STAGES
from baa.config import load, to_plain, to_yaml
from baa.errors import InputError
from baa.schema import Config
from baa.training.callbacks import write_whole
from baa.training.resuming import NEWEST_FIRST

FREE_TO_CHANGE = ("trainer", "wandb", "runs", "data.workers", "data.cache", "stages")
"""Settings that a resumed run may be given anew: they change where it runs, not what it computes."""

FREE_UNTIL = {"estimator": ("crops", "estimator"), "joint": ("joint",)}
"""Settings that may still change while neither this stage nor a later one has begun."""


def claim(config: Config) -> None:
    """Write the run's settings.

    Raises:
        InputError: a stage was trained with others in this folder.
    """
    file = config.folder / "config.yaml"
    begun = [stage for stage in config.stages if any((config.folder / stage / name).exists() for name in NEWEST_FIRST)]
    if begun and file.exists():
        unused = [keys for stage, keys in FREE_UNTIL.items() if not set(STAGES[STAGES.index(stage) :]) & set(begun)]
        free = (*FREE_TO_CHANGE, *itertools.chain(*unused))
        old, new = _flat(to_plain(load(None, base=yaml.safe_load(file.read_text())))), _flat(to_plain(config))
        changed = [k for k in new if old[k] != new[k] and not any(k == f or k.startswith(f"{f}.") for f in free)]
        if changed:
            key = changed[0]
            raise InputError(
                f"{config.folder} was begun with other settings: {key} was {old[key]} and is {new[key]}"
                + (f" ({len(changed)} differ)" if len(changed) > 1 else "")
                + "; give another name=, or remove the folder"
            )
    rank_zero_only(write_whole)(file, to_yaml(config))


def _flat(node: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat
