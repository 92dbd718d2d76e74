"""Interleaved timing. The machine's speed drifts, so the compared sides take turns and only their quotients count."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import torch

ROUNDS = 7
T = TypeVar("T")


class Row(NamedTuple):
    """A measured quotient and its limit.

    `low` and `high` are the extremes of all rounds. `must` is the upper limit of `ratio`, or the lower limit with `at_least`.
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


def in_turns(sides: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Call every side once per round, in alternating order, and return the results of each side."""
    results: dict[str, list[T]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 else list(sides)[::-1]:
            results[name].append(sides[name]())
    return results


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the seconds of each side in every round, after one warm-up round."""
    seconds = in_turns({name: partial(_seconds, side) for name, side in sides.items()}, rounds + 1)
    return {name: times[1:] for name, times in seconds.items()}


def _seconds(side: Callable[[], object]) -> float:
    start = time.perf_counter()
    side()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def quotient(name: str, what: str, over: list[float], under: list[float], must: float, *, at_least: bool = False) -> Row:
    """Return the median of the rounds' quotients as a row."""
    quotients = [a / b for a, b in zip(over, under, strict=True)]
    return Row(name, what, statistics.median(quotients), min(quotients), max(quotients), must, at_least)
