"""The settings of a trial that W&B gives to an agent a second time.

The first time its arguments are the parameters of the sweep. After a preemption they are the whole config of its W&B run: the
parameters, what `baa` sent, and W&B's own `_wandb`.
"""

import ast
from collections.abc import Sequence
from dataclasses import fields, is_dataclass

from baa.config.schema import Config

OWN = ("_wandb", "wandb_version")
"""Arguments that are W&B's alone."""

NOT_SENT = {"name": "", "runs": Config.runs, "weights": "None"}
"""Settings that are sent without their value."""


def as_at_first(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a trial without those that W&B has added: what the run sent itself, which may lack folders."""
    if not any(_key_and_value(override)[0] in OWN for override in overrides):
        return list(overrides)
    return [override for override in overrides if not _is_added(*_key_and_value(override))]


def _key_and_value(override: str) -> tuple[str, str]:
    key, _, value = override.lstrip("-").partition("=")
    return key, value


def _is_added(key: str, value: str) -> bool:
    group = getattr(Config(), key, None)
    if not is_dataclass(group):
        return key in OWN or NOT_SENT.get(key) == value
    try:
        sent = ast.literal_eval(value)  # the agent writes Python; a sweep file's group of settings has only some of them
    except (SyntaxError, ValueError):
        return False
    return isinstance(sent, dict) and sent.keys() >= {field.name for field in fields(group)}
