"""W&B sweep files: search space, method, and command of a trial.

Format: https://docs.wandb.ai/models/sweeps/sweep-config-keys. This reads the keys that a search on one machine needs. It
rejects every other key, so that a file never has another meaning here than under W&B.
"""

import argparse
import itertools
import math
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
FLAGS = "${args_no_boolean_flags}"
"""W&B's macro for settings of which true ones have no value and false ones are left out."""

RUN_ID = "WANDB_RUN_ID"
"""Environment variable with the id of a trial's W&B run, set by W&B's agent and by `baa.sweep`. Run names may contain it."""

PARAMETER_KEYS = {"value", "values", "min", "max", "q", "distribution"}
HYPERBAND_KEYS = {"type", "min_iter", "eta", "strict"}


Space = CategoricalDistribution | FloatDistribution | IntDistribution


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep file.

    Attributes:
        file: the sweep file.
        method: one of `METHODS`.
        metric: name of the metric.
        minimize: whether lower is better.
        command: command of a trial, with its macros.
        shared: fixed settings of all trials.
        searched: search space of each searched setting.
        early: first epoch at which a trial may end, and eta: 1 in eta trials continues. None: no early termination.
        strict: whether trials are compared by their metric at that epoch; otherwise by their best one so far, as W&B does.
    """

    file: Path
    method: str
    metric: str
    minimize: bool
    command: tuple[str, ...]
    shared: Mapping[str, Any]
    searched: Mapping[str, Space]
    early: tuple[int, int] | None
    strict: bool

    def grid(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of the searched values.

        Raises:
            InputError: a setting has a range instead of values.
        """
        for name, space in self.searched.items():
            if not isinstance(space, CategoricalDistribution):
                raise InputError(f"{self.file}: parameters.{name}: a grid needs values: [...]")
        choices = [space.choices for space in self.searched.values() if isinstance(space, CategoricalDistribution)]
        for combination in itertools.product(*choices):
            yield dict(zip(self.searched, combination, strict=True))

    def example(self) -> dict[str, Any]:
        """Return one point of the search space."""
        return {
            name: space.choices[0] if isinstance(space, CategoricalDistribution) else space.low
            for name, space in self.searched.items()
        }

    def trial(self, chosen: Mapping[str, Any], overrides: Sequence[str] = ()) -> list[str]:
        """Return the command of a trial with its macros filled as by W&B's agent; `${interpreter}` is this Python."""
        settings = [f"{name}={value}" for name, value in (*self.shared.items(), *chosen.items())]
        macros = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": [sys.executable],
            "${args_no_hyphens}": settings,
            "${args}": [f"--{setting}" for setting in settings],
            FLAGS: [
                f"--{name}" if value is True else f"--{name}={value}"
                for name, value in (*self.shared.items(), *chosen.items())
                if value is not False
            ],
        }
        filled = [macros[part] if part in macros else [ENVIRONMENT.sub(_variable, part)] for part in self.command]
        return [*itertools.chain(*filled), *overrides]

    def config(self, command: Sequence[str], run: str) -> Config:
        """Load the config of a trial's command, with `run` as the id of its W&B run.

        Raises:
            InputError: the command has no config, or a setting that `baa.fit` rejects.
        """
        parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
        parser.add_argument("--config", type=Path, action="append")
        arguments, overrides = parser.parse_known_args(command[command.index("baa.fit") + 1 :] if "baa.fit" in command else [])
        if not arguments.config:
            raise InputError(f"{self.file}: command: a trial runs `python -m baa.fit --config FILE ...`")
        with _environment(RUN_ID, run):
            return load(arguments.config, overrides)


def read_sweep(file: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        InputError: the file is missing, not YAML, or has a key or value that is not supported.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}; sweep files are in sweeps/") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict):
        raise InputError(f"{file}: parameters is missing; it lists the settings to search")
    for key in content:
        if key not in KEYS:
            raise InputError(f"{file}: {key} is not supported; use W&B's agent for it")
    method = content.get("method")
    if method not in METHODS:
        raise InputError(f"{file}: method: {method} is not supported; give one of {', '.join(METHODS)}")
    metric = content.get("metric") or {}
    if isinstance(metric, dict):
        metric = {"goal": "minimize"} | metric
    if not isinstance(metric, dict) or "name" not in metric or metric["goal"] not in ("minimize", "maximize"):
        raise InputError(
            f"{file}: metric: {metric} is not usable; give a name, such as val/mae, and goal: minimize or maximize"
        )
    shared: dict[str, Any] = {}
    searched: dict[str, Space] = {}
    for name, described in content["parameters"].items():
        place = f"{file}: parameters.{name}"
        if not isinstance(described, dict):
            raise InputError(f"{place}: no values; give value:, values: or min: and max:")
        if unknown := described.keys() - PARAMETER_KEYS:
            raise InputError(f"{place}: {sorted(unknown)[0]} is not supported; use W&B's agent for it")
        if "value" in described:
            shared[name] = described["value"]
        else:
            searched[name] = _space(place, described)
    if not searched:
        raise InputError(f"{file}: parameters: all have a single value, nothing is left to search")
    return Sweep(
        file=file,
        method=method,
        metric=metric["name"],
        minimize=metric["goal"] == "minimize",
        command=tuple(str(part) for part in content.get("command") or ()),
        shared=shared,
        searched=searched,
        early=_early(file, content.get("early_terminate")),
        strict=(content.get("early_terminate") or {}).get("strict", False),
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
    return os.environ.get(found[1], found[1])  # as W&B's agent does


def _space(place: str, described: Mapping[str, Any]) -> Space:
    kind = described.get("distribution")
    if kind is not None and kind not in DISTRIBUTIONS:
        raise InputError(f"{place}: distribution {kind} is not supported; give one of {', '.join(DISTRIBUTIONS)}")
    try:
        if "values" in described:
            return CategoricalDistribution(described["values"])
        low, high = described["min"], described["max"]
        if not all(isinstance(edge, int | float) for edge in (low, high)) or not -math.inf < low < high < math.inf:
            raise InputError(f"{place}: min is {low} and max is {high}; min must be a number below max (1.0e-3, not 1e-3)")
        if kind == "int_uniform" or (kind is None and isinstance(low, int) and isinstance(high, int)):
            return IntDistribution(low, high)
        if kind == "q_uniform":
            return FloatDistribution(low, high, step=described.get("q", 1.0))
        return FloatDistribution(low, high, log=kind == LOGARITHMIC)
    except KeyError as error:
        raise InputError(f"{place}: no values; give value:, values: or min: and max:") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: {error}") from error


def _early(file: Path, described: Any) -> tuple[int, int] | None:
    if described is None:
        return None
    known = isinstance(described, dict) and described.get("type") == "hyperband" and not described.keys() - HYPERBAND_KEYS
    first, eta = (described.get("min_iter", 1), described.get("eta", 3)) if known else (0, 0)
    is_flag = known and isinstance(described.get("strict", False), bool)
    if not (isinstance(first, int) and isinstance(eta, int) and first >= 1 and eta >= 2 and is_flag):
        raise InputError(
            f"{file}: early_terminate: baa.sweep takes type: hyperband, min_iter of 1 or more, eta of 2 or more, and "
            f"strict: true or false, not {described}; change it, or use W&B's agent"
        )
    return first, eta


def allows(space: Space, value: Any) -> bool:
    """Return whether a value is in the search space of its setting."""
    if isinstance(space, CategoricalDistribution):
        return value in space.choices
    return isinstance(value, int | float) and space.low <= value <= space.high
