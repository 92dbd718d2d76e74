"""Weights of others, compared by shape with networks that take no memory, before any is spent on them."""

from collections.abc import Mapping
from typing import Any

import torch

from baa.nets.estimator import Estimator
from baa.nets.input_check import InputCheck
from baa.nets.locator import Locator

Shapes = Mapping[str, tuple[int, ...]]

FULL_BYTES = 4
"""Of a number of a network in memory."""

HALF = 2
"""Numbers in memory have at most so many times the bytes that they have in a file."""

MIB = 2**20


def refuse_other_shapes(networks: Mapping[str, Mapping[str, Any]], found: Mapping[str, Shapes], file_bytes: int) -> None:
    """Refuse weights that are not those of the networks, and networks larger than the file of their weights.

    Args:
        networks: arguments of `Locator` and `Estimator`, by name.
        found: shapes of the weights by part, see `Weights`.
        file_bytes: size of the file that holds the weights.

    Raises:
        RuntimeError: they differ.
    """
    expected = _expected(networks, "weight" in found["input_check"])
    numbers = 0
    for part, shapes in expected.items():
        other = found[part]
        if wrong := sorted(shapes.keys() ^ other.keys()) or [name for name in shapes if shapes[name] != tuple(other[name])]:
            raise RuntimeError(f"{part}.{wrong[0]}: the weights are not those of the networks")
        numbers += sum(torch.Size(shape).numel() for shape in shapes.values())
    if numbers * FULL_BYTES > HALF * file_bytes + MIB:
        raise RuntimeError("the networks are larger than the file of their weights")


def _expected(networks: Mapping[str, Mapping[str, Any]], with_input_check: bool) -> dict[str, Shapes]:
    """The shapes of the weights of each part. Building on `meta` allocates nothing."""
    parts: dict[str, torch.nn.Module] = {}
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        if "locator" in networks:
            parts["locator"] = locator = Locator(**networks["locator"])
            if with_input_check:
                parts["input_check"] = InputCheck(locator.backbone.channels)
        if "estimator" in networks:
            parts["estimator"] = Estimator(**networks["estimator"])
    nothing: dict[str, Shapes] = {"locator": {}, "estimator": {}, "input_check": {}}
    return nothing | {part: {name: tuple(t.shape) for name, t in net.state_dict().items()} for part, net in parts.items()}
