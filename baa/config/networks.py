"""The settings with which the networks of a trained model were built."""

from collections.abc import Mapping
from typing import Any

from baa.errors import InputError
from baa.patient import MAX_MONTHS

LOCATOR, ESTIMATOR = "locator", "estimator"
BOTH = {LOCATOR, ESTIMATOR}
PARTS = {"locator": [{LOCATOR}], "estimator": [{ESTIMATOR}, BOTH], "joint": [BOTH]}
"""Sets of networks that a model of a stage may have."""

SCALE = {"mean_months": 127.0, "std_months": 41.0}
"""Arguments that are no settings, and their defaults."""


MAX_SIDE = 4096
"""Pixels of the largest image of a network with a fixed side."""


def network_settings(stage: str, networks: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the arguments of `Locator` and `Estimator` into settings, whose schema then checks them.

    Args:
        stage: that trained the model last.
        networks: arguments by name of the network.

    Raises:
        InputError: other networks than those of the stage, or arguments of another form.
    """
    settings: dict[str, Any] = {}
    try:
        if set(networks) not in PARTS.get(stage, []):
            raise InputError("networks: not those of its stage")
        if LOCATOR in networks:
            given = {"auxiliary_stride": None} | _without_scale(networks[LOCATOR])
            settings[LOCATOR] = given | {"backbone": {"name": given["backbone"]}}
        if ESTIMATOR in networks:
            given = {"hidden": 0, "dropout": 0.0} | _without_scale(networks[ESTIMATOR])
            backbones, with_pool = given.pop("backbones"), given.pop("conv_pool")
            sides = given.pop("sides", {})  # settings of crops
            if not (set(sides) <= set(backbones) and all(type(px) is int and 0 < px <= MAX_SIDE for px in sides.values())):
                raise InputError("networks: sides that no stream has")
            given.pop("auxiliary", None)  # whether streams have ages of their own; the setting is the weight of their loss
            if not set(with_pool) <= set(backbones):
                raise InputError("networks: conv_pool names another stream")
            streams = {name: {"name": backbone, "conv_pool": name in with_pool} for name, backbone in backbones.items()}
            settings[ESTIMATOR] = {"streams": list(backbones)} | given | streams
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError("networks: not the arguments of this version's networks") from error
    return settings


def _without_scale(arguments: Mapping[str, Any]) -> dict[str, Any]:
    others = dict(arguments)
    for name, default in SCALE.items():
        months = others.pop(name, default)
        if isinstance(months, bool) or not isinstance(months, int | float) or not 0 <= months <= MAX_MONTHS:
            raise InputError(f"networks: {name} is not between 0 and {MAX_MONTHS:g}")
    return others


def merged(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, overridden by others."""
    result = dict(settings)
    for name, value in others.items():
        below = result.get(name)
        result[name] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def first_difference(given: Any, read: Any, key: str = "") -> str | None:
    """The dotted key of the first value that reading by the schema has changed, such as a number given as text."""
    if isinstance(given, dict) and isinstance(read, dict):
        found = (first_difference(value, read.get(name), f"{key}.{name}".lstrip(".")) for name, value in given.items())
        return next(filter(None, found), None)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (given, read))
    return None if given == read and (numbers or type(given) is type(read)) else key
