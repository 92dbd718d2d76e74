"""A run's settings from a YAML file and the command line.

A file holds only what differs from the schema's defaults, `key=value` on the command line goes last. `load` refuses what the
schema does not know and names the nearest key it does.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from baa.config.schema import Backbone, Config, Table, Trainer, Wandb
from baa.config.validate import check, check_sources
from baa.errors import InputError
from baa.model_card import model_path, networks_of, read_card

WEIGHTS_BY_NAME = ("imagenet", "none", "locator")


def load(file: Path | None, overrides: Sequence[str] = (), base: dict[str, Any] | None = None) -> Config:
    """Schema, then `base`, then the file, then the overrides, each over the one before.

    Without a base these are the settings of a run to begin: the networks that `weights` names bring their own settings, over
    the file's and under the overrides, and no stage may start from nowhere.

    Args:
        file: a YAML file, or None.
        overrides: `key.key=value`, leading dashes forgiven.
        base: the settings of something that is trained already.

    Raises:
        InputError: no such file, no YAML, an unknown key, a value of the wrong type or out of range, a run without a start.
    """
    given = [_override(override) for override in overrides]
    layers = [] if base is None else [(OmegaConf.create(base), "the model's settings")]
    if file is not None:
        layers.append((_read(file), str(file)))
    config, card = _together([*layers, *given]), None
    if base is None and config.weights:
        card = read_card(model_path(config.weights), "weights")
        config = _together([*layers, (OmegaConf.create(networks_of(card)), config.weights), *given])
    config.name = config.name or (file.stem if file else "")
    check(config)
    if base is None:
        check_sources(config, card)
    return config


def _together(layers: Sequence[tuple[DictConfig, str]]) -> Config:
    schema = OmegaConf.structured(Config)
    for settings, place in layers:
        schema = _merge(schema, settings, place)
    try:
        return OmegaConf.to_object(schema)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key}: {str(error).splitlines()[0]}") from error


def _override(override: str) -> tuple[DictConfig, str]:
    key, equals, value = override.lstrip("-").partition("=")
    if not equals:
        raise InputError(f"{override!r} is not key=value, such as locator.fit.epochs=5")
    return _one_setting(key, value), f"command line: {override}"


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


def to_plain(config: Config) -> dict[str, Any]:
    """As dicts, lists, strings and numbers."""
    plain = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def to_use(settings: dict[str, Any]) -> dict[str, Any]:
    """Plain settings of a trained model without those of the machine that it was trained on."""
    config = load(None, base=settings)
    config.trainer = Trainer(precision=config.trainer.precision)
    return to_plain(config)


def to_share(settings: dict[str, Any]) -> dict[str, Any]:
    """Plain settings of a model that goes elsewhere: no file, folder, column, machine or account of whoever trained it."""
    config = load(None, base=to_use(settings))
    config.name, config.runs, config.weights = "", Config.runs, None
    config.wandb, config.data.table = Wandb(), Table()
    for name in ("root", "roi", "capitate"):
        setattr(config.data, name, None)
    config.data.cache, config.data.split.test_ids = Config().data.cache, None
    config.locator.checkpoint = config.joint.start = None
    streams = [config.estimator.carpal, config.estimator.hand, config.estimator.whole]
    for backbone in (config.locator.backbone, *streams):
        if backbone.weights not in WEIGHTS_BY_NAME:
            backbone.weights = Backbone.weights
    return to_plain(config)


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that are not the same in both, by dotted name: (old, new)."""
    before, after = _flat(to_plain(old)), _flat(to_plain(new))
    return {key: (before[key], after[key]) for key in after if before[key] != after[key]}


def _flat(node: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat


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
