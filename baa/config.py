"""A run's settings from a YAML file and the command line.

A file holds only what differs from the schema's defaults, `key=value` on the command line goes last. `load` refuses what the
schema does not know and names the nearest key it does.
"""

import copy
import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from baa.errors import InputError
from baa.schema import Config

STAGES = ("locator", "estimator", "joint")
STREAMS = ("carpal", "hand", "whole")
SEX_PLACES = ("projected", "fused", "joined")

PLACES = (
    "runs",
    "data.root",
    "data.cache",
    "data.table.file",
    "data.split.test_ids",
    "data.roi",
    "data.capitate",
    "locator.checkpoint",
    "joint.start",
    "weights",
    "locator.backbone.weights",
    *(f"estimator.{stream}.weights" for stream in STREAMS),
)
"""Settings that name a file or a folder, or may."""

NO_PLACES = ("imagenet", "none", "locator")

SMALLEST_RATE = 1e-12
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "data.phantom.count": (1, math.inf),
    "data.source_px": (32, math.inf),
    "data.workers": (0, math.inf),
    "data.limit": (1, math.inf),
    "data.augment.degrees": (0, 180),
    "data.augment.scale": (0, 0.9),
    "data.augment.shift": (0, 1),
    "data.augment.contrast": (0, 1),
    "data.augment.brightness": (0, 1),
    "data.augment.flip": (0, 1),
    "locator.px": (32, math.inf),
    "locator.dropout": (0, 1),
    "locator.erase": (0, 1),
    "crops.threshold": (0, 1),
    "crops.margin": (0, 0.5),
    "crops.sharpness": (0.01, math.inf),
    "crops.floor": (0, math.inf),
    "estimator.whole_px": (32, math.inf),
    "estimator.fusion.width": (1, math.inf),
    "estimator.fusion.exchange": (0, 1),
    "estimator.fusion.sparsity": (0, math.inf),
    "estimator.hidden": (0, math.inf),
    "estimator.dropout": (0, 1),
    "estimator.auxiliary": (0, math.inf),
    "estimator.erase": (0, 1),
    "joint.locator_lr": (0, math.inf),
    "joint.locator_weight": (0, math.inf),
    "joint.locator_frozen": (0, math.inf),
    "joint.estimator_frozen": (0, math.inf),
    "joint.erase": (0, 1),
    "trainer.nodes": (1, math.inf),
    **{
        f"{stage}.fit.{setting}": limits
        for stage in STAGES
        for setting, limits in {
            "epochs": (1, math.inf),
            "batch_size": (2, math.inf),  # batch norm has nothing to say of one
            "lr": (SMALLEST_RATE, math.inf),
            "weight_decay": (0, math.inf),
            "clip": (SMALLEST_RATE, math.inf),
            "ema": (0, 1 - SMALLEST_RATE),
            "warmup": (0, 1),
            "epoch_steps": (1, math.inf),
        }.items()
    },
}


def load(file: Path | None, overrides: Sequence[str] = (), base: dict[str, Any] | None = None) -> Config:
    """Schema, then `base`, then the file, then the overrides, each over the one before.

    Args:
        file: a YAML file, or None.
        overrides: `key.key=value`, leading dashes forgiven.
        base: settings under the file's, such as those that a checkpoint carries.

    Raises:
        InputError: no such file, no YAML, an unknown key, a value of the wrong type or out of range.
    """
    schema = OmegaConf.structured(Config)
    if base:
        schema = _merge(schema, OmegaConf.create(base), "the checkpoint's config")
    if file is not None:
        schema = _merge(schema, _read(file), str(file))
    for override in overrides:
        key, equals, value = override.lstrip("-").partition("=")
        if not equals:
            raise InputError(f"{override!r} is not key=value, such as locator.fit.epochs=5")
        schema = _merge(schema, _one_setting(key, value), f"command line: {override}")
    try:
        config: Config = OmegaConf.to_object(schema)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    config.name = config.name or (file.stem if file else "")
    _check(config)
    return config


def _read(file: Path) -> DictConfig:
    if not file.is_file():
        near = difflib.get_close_matches(file.name, [p.name for p in file.parent.glob("*.yaml")], 1, 0.4)
        raise InputError(f"{file} is not a file" + (f"; did you mean {file.parent / near[0]}?" if near else ""))
    try:
        content = OmegaConf.load(file)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, DictConfig):
        raise InputError(f"{file} holds a list; a config is key: value")
    return content


def _one_setting(key: str, value: str) -> DictConfig:
    try:
        return OmegaConf.from_dotlist([f"{key}={value}"])
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"command line: {key}={value}: {' '.join(str(error).split())}") from error


def _merge(schema: DictConfig, settings: DictConfig, place: str) -> DictConfig:
    known = set(_keys(Config()))
    for key in _leaves(OmegaConf.to_container(settings)):
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else "; `python -m baa.fit --help` names the settings"
            raise InputError(f"{place}: {key} is not a setting{hint}")
    try:
        return OmegaConf.merge(schema, settings)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{place}: {error.full_key}: {reason}") from error


def _keys(node: Any, above: str = "") -> Iterator[str]:
    """Dotted names of a schema's settings, groups included."""
    for name, value in vars(node).items():
        yield above + name
        if is_dataclass(value):
            yield from _keys(value, f"{above}{name}.")


def _leaves(node: Any, above: str = "") -> Iterator[str]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{above}.{name}" if above else str(name))
    elif above:
        yield above


def _check(config: Config) -> None:
    """What types cannot say."""
    problems = list(_out_of_range(config))
    for setting, chosen, known in (
        ("stages", config.stages, STAGES),
        ("estimator.streams", config.estimator.streams, STREAMS),
        ("estimator.fusion.sex_at", config.estimator.fusion.sex_at or ["fused"], SEX_PLACES),
    ):
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
            problems.append(f"{setting} is {chosen}; it takes each of {', '.join(known)} at most once, and at least one")
    if not problems and config.stages != [stage for stage in STAGES if stage in config.stages]:
        problems.append(f"stages is {config.stages}; their order is {', '.join(STAGES)}")
    if "joint" in config.stages:
        if not set(config.estimator.streams) - {"whole"}:
            problems.append("stages: joint needs crops between its networks; estimator.streams has none")
        if "estimator" not in config.stages and not config.joint.start:
            problems.append("stages: joint starts from an estimator; add that to stages, or give its checkpoint, joint.start")
        if config.crops.rule == "moments":
            if config.crops.sharpness < 1:
                problems.append(f"crops.sharpness is {config.crops.sharpness}; joint differentiates it and takes 1 or more")
            if config.trainer.deterministic and config.trainer.accelerator != "cpu":
                problems.append(
                    "trainer.deterministic: joint needs crops.rule=peak, or trainer.accelerator=cpu (a crop's gradient)"
                )
    borrowing = [name for name in config.estimator.streams if getattr(config.estimator, name).weights == "locator"]
    needs_locator = "estimator" in config.stages and (set(config.estimator.streams) - {"whole"} or borrowing)
    if needs_locator and "locator" not in config.stages and not config.locator.checkpoint and not config.weights:
        problems.append(
            f"estimator.streams {'takes weights' if borrowing else 'has crops'} from a locator but no stage trains one; "
            "add it to stages, or give locator.checkpoint or weights"
        )
    if config.locator.backbone.weights == "locator":
        problems.append("locator.backbone.weights is locator; it has none of its own yet, take imagenet, none, or a file")
    split = config.data.split
    if not (split.val > 0 and split.test >= 0 and split.val + split.test < 1):
        problems.append(f"data.split: val={split.val} and test={split.test} leave nothing to train on, or nothing to choose by")
    crops = config.crops
    for setting in ("extents", "smallest", "largest", "typical", "spreads"):
        pair = getattr(crops, setting)
        if len(pair) != 2 or min(pair) < 0 or (setting != "spreads" and min(pair) == 0):
            problems.append(f"crops.{setting} is {pair}; it takes two numbers above 0, carpal and hand")
    if len(crops.px) != 2 or min(crops.px) < 32:
        problems.append(f"crops.px is {crops.px}; it takes two sides of at least 32 pixels, carpal and hand")
    if [len(centre) for centre in crops.centres] != [2, 2]:
        problems.append(f"crops.centres is {crops.centres}; it takes [[x, y], [x, y]], carpal and hand")
    if not problems and any(low > high for low, high in zip(crops.smallest, crops.largest, strict=True)):
        problems.append(f"crops.smallest is {crops.smallest}, above crops.largest, {crops.largest}")
    borrowed = config.locator.checkpoint or config.weights
    if crops.reading == "class" and config.locator.head != "distribution" and not borrowed:
        problems.append("crops.reading=class needs locator.head=distribution")
    if problems:
        raise InputError("; ".join(problems))


def _out_of_range(config: Config) -> Iterator[str]:
    for setting, (low, high) in RANGES.items():
        value: Any = config
        for name in setting.split("."):
            value = getattr(value, name)
        if value is not None and not low <= value <= high:
            limits = f"from {low} to {high}" if high < math.inf else f"{low} or more"
            yield f"{setting} is {value}; it takes {limits}"


def to_plain(config: Config) -> dict[str, Any]:
    """As dicts, lists, strings and numbers."""
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def without_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Plain settings with the defaults of every one that names a file or a folder: these mean nothing on another machine."""
    bare: dict[str, Any] = copy.deepcopy(dict(settings))
    usual = to_plain(Config())
    for setting in PLACES:
        *groups, name = setting.split(".")
        node, default = bare, usual
        for group in groups:
            node, default = node[group], default[group]
        if node[name] not in NO_PLACES:
            node[name] = default[name]
    return bare


def to_yaml(config: Config) -> str:
    """As a YAML file that `load` reads back."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def describe_settings() -> str:
    """Every setting with its default, for `--help`."""
    lines, schema = [], OmegaConf.structured(Config)
    for key in _keys(Config()):
        value = OmegaConf.select(schema, key)
        if not isinstance(value, DictConfig):
            lines.append(f"  {key}={'null' if value is None else value}")
    return "\n".join(lines)
