"""A W&B sweep file: what is searched, how, and the command of a trial.

The format is W&B's (https://docs.wandb.ai/models/sweeps/sweep-config-keys), of which this reads the part that a search on one
machine needs; what it does not know it refuses, so that the same file never means two things.
"""

import itertools
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from baa.config.load import load
from baa.config.schema import Config
from baa.errors import InputError

METHODS = ("bayes", "grid", "random")
KEYS = ("program", "command", "method", "metric", "early_terminate", "parameters", "name", "description", "project", "entity")
LOGARITHMIC = "log_uniform_values"
DISTRIBUTIONS = ("constant", "categorical", "uniform", "int_uniform", "q_uniform", LOGARITHMIC)
ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
RUN_ID = "WANDB_RUN_ID"
"""Where W&B's agent, and ours, tell a trial which run it is; sweep files name its folder by it."""

PARAMETER_KEYS = {"value", "values", "min", "max", "q", "distribution"}
HYPERBAND_KEYS = {"type", "min_iter", "eta"}


Space = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    file; method, one of `METHODS`; metric and whether it is to be small; command of a trial, macros unfilled; settings that all
    trials share; what is searched by setting; of early termination the first epoch at which a trial may end, and eta: the best
    1 in eta go on (None: every trial goes on to its end).
    """

    file: Path
    method: str
    metric: str
    minimise: bool
    command: tuple[str, ...]
    shared: Mapping[str, Any]
    searched: Mapping[str, Space]
    early: tuple[int, int] | None

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination of what is searched.

        Raises:
            InputError: a setting is searched on a continuous range.
        """
        for name, space in self.searched.items():
            if not isinstance(space, CategoricalDistribution):
                raise InputError(f"{self.file}: parameters.{name}: a grid needs values: [...]")
        choices = [space.choices for space in self.searched.values() if isinstance(space, CategoricalDistribution)]
        for combination in itertools.product(*choices):
            yield dict(zip(self.searched, combination, strict=True))

    def example(self) -> dict[str, Any]:
        """Some point of what is searched."""
        return {
            name: space.choices[0] if isinstance(space, CategoricalDistribution) else space.low
            for name, space in self.searched.items()
        }

    def trial(self, chosen: Mapping[str, Any], overrides: Sequence[str] = ()) -> list[str]:
        """The command of a trial, as W&B's agent would fill it in, with this Python as `${interpreter}`."""
        settings = [f"{name}={value}" for name, value in (*self.shared.items(), *chosen.items())]
        macros = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": [sys.executable],
            "${args_no_hyphens}": settings,
            "${args}": [f"--{setting}" for setting in settings],
        }
        filled = [macros[part] if part in macros else [ENVIRONMENT.sub(_variable, part)] for part in self.command]
        return [*itertools.chain(*filled), *overrides]

    def config(self, command: Sequence[str], run: str) -> Config:
        """The config that a trial's command leads to, with `run` as the id of its W&B run.

        Raises:
            InputError: the command does not name a config, or has a setting that `baa.fit` refuses.
        """
        if "baa.fit" not in command or "--config" not in command:
            raise InputError(f"{self.file}: command: a trial runs `python -m baa.fit --config FILE ...`")
        place = command.index("--config") + 1
        with _environment(RUN_ID, run):
            return load(Path(command[place]), command[place + 1 :])


def read_sweep(file: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        InputError: no such file, or something in it that a search here does not know.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; sweep files lie in sweeps/") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict):
        raise InputError(f"{file}: parameters is missing; it names what is searched")
    for key in content:
        if key not in KEYS:
            raise InputError(f"{file}: {key} is not known here; W&B's agent may know it")
    method = content.get("method")
    if method not in METHODS:
        raise InputError(f"{file}: method is {method}; it takes {', '.join(METHODS)}")
    metric = content.get("metric") or {}
    if isinstance(metric, dict):
        metric = {"goal": "minimize"} | metric
    if not isinstance(metric, dict) or "name" not in metric or metric["goal"] not in ("minimize", "maximize"):
        raise InputError(f"{file}: metric is {metric}; it takes a name, such as val/mae, and goal: minimize or maximize")
    shared: dict[str, Any] = {}
    searched: dict[str, Space] = {}
    for name, described in content["parameters"].items():
        place = f"{file}: parameters.{name}"
        if not isinstance(described, dict):
            raise InputError(f"{place}: it takes value:, values: or min: and max:")
        if unknown := described.keys() - PARAMETER_KEYS:
            raise InputError(f"{place}: {sorted(unknown)[0]} is not known here; W&B's agent may know it")
        if "value" in described:
            shared[name] = described["value"]
        else:
            searched[name] = _space(place, described)
    if not searched:
        raise InputError(f"{file}: parameters: every one is a single value, nothing is left to search")
    return Sweep(
        file=file,
        method=method,
        metric=metric["name"],
        minimise=metric["goal"] == "minimize",
        command=tuple(str(part) for part in content.get("command") or ()),
        shared=shared,
        searched=searched,
        early=_early(file, content.get("early_terminate")),
    )


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ.update({} if before is None else {name: before})


def _variable(found: re.Match[str]) -> str:
    return os.environ.get(found[1], found[1])  # as the agent does


def _space(place: str, described: Mapping[str, Any]) -> Space:
    kind = described.get("distribution")
    if kind is not None and kind not in DISTRIBUTIONS:
        raise InputError(f"{place}: distribution {kind} is not known here; it takes {', '.join(DISTRIBUTIONS)}")
    try:
        if "values" in described:
            return CategoricalDistribution(described["values"])
        low, high = described["min"], described["max"]
        if not all(isinstance(edge, int | float) for edge in (low, high)) or not low < high:
            raise InputError(f"{place}: min is {low} and max is {high}; min must be a number below max (1.0e-3, not 1e-3)")
        if kind == "int_uniform" or (kind is None and isinstance(low, int) and isinstance(high, int)):
            return IntDistribution(low, high)
        if kind == "q_uniform":
            return FloatDistribution(low, high, step=described.get("q", 1.0))
        return FloatDistribution(low, high, log=kind == LOGARITHMIC)
    except KeyError as error:
        raise InputError(f"{place}: it takes value:, values: or min: and max:") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {error}") from error


def _early(file: Path, described: Any) -> tuple[int, int] | None:
    if described is None:
        return None
    known = isinstance(described, dict) and described.get("type") == "hyperband" and not described.keys() - HYPERBAND_KEYS
    first, eta = (described.get("min_iter", 1), described.get("eta", 3)) if known else (0, 0)
    if not (isinstance(first, int) and isinstance(eta, int) and first >= 1 and eta >= 2):
        raise InputError(f"{file}: early_terminate takes type: hyperband, min_iter of 1 or more and eta of 2 or more")
    return first, eta


def allows(space: Space, value: Any) -> bool:
    """Whether a setting's value is among those that are searched."""
    if isinstance(space, CategoricalDistribution):
        return value in space.choices
    return isinstance(value, int | float) and space.low <= value <= space.high
