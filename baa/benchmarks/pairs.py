"""Timing in turns: on a machine whose speed drifts, only what runs side by side can be compared."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

ROUNDS = 7


class Row(NamedTuple):
    """A measured quotient and what it must reach.

    `low` and `high` are the extremes of the rounds; `must` is a ceiling, or a floor where `at_least`.
    """

    name: str
    what: str
    ratio: float
    low: float
    high: float
    must: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.ratio >= self.must if self.at_least else self.ratio <= self.must


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each side in every round, after one that does not count; the order turns from round to round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        order = list(sides) if number % 2 else list(sides)[::-1]
        for name in order:
            start = time.perf_counter()
            sides[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def quotient(name: str, what: str, over: list[float], under: list[float], must: float, *, at_least: bool = False) -> Row:
    """The median of the rounds' quotients, as a row."""
    quotients = [a / b for a, b in zip(over, under, strict=True)]
    return Row(name, what, statistics.median(quotients), min(quotients), max(quotients), must, at_least)
