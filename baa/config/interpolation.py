"""Interpolations of OmegaConf in settings: which are allowed, and where."""

import re
from collections.abc import Iterator
from typing import Any

from baa.errors import InputError
from baa.model_card import INTERPOLATION

VARIABLES = ("WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_SWEEP_ID")
"""Environment variables that a config may name. W&B sets them for the trials of a sweep; none is a secret."""

ALLOWED = re.compile(rf"\$\{{(?:\.*[A-Za-z_][\w.]*|oc\.env:(?:{'|'.join(VARIABLES)})(?:,[\w./-]*)?)\}}")


def refuse_other_interpolations(settings: Any, place: str) -> None:
    """Refuse all interpolations but those of the config's own settings and of `VARIABLES`.

    Raises:
        InputError: there is another one.
    """
    for text in _texts(settings):
        if INTERPOLATION in ALLOWED.sub("", text):
            raise InputError(
                f"{place}: {text!r} is not allowed; only ${{other.setting}} and ${{oc.env:NAME}} of {', '.join(VARIABLES)} are "
                "resolved, so write the value itself"
            )


def refuse_interpolations(settings: Any, place: str) -> None:
    """Refuse every interpolation: the settings of a trained model are data.

    Raises:
        InputError: there is one.
    """
    if any(INTERPOLATION in text for text in _texts(settings)):
        raise InputError(f"{place}: a text has {INTERPOLATION}, which would be resolved; write the value itself")


def _texts(settings: Any) -> Iterator[str]:
    left = [settings]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            left += value
