"""The settings of a run, from YAML files and the command line.

A file holds only what differs from the defaults of the schema. `key=value` on the command line overrides the files. Where the
schema has text, text stands as it is given.
"""

import copy
import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from baa.config.data_schema import TableConfig
from baa.config.interpolation import refuse_interpolations, refuse_other_interpolations
from baa.config.networks import first_difference, merged, network_settings
from baa.config.parse import KINDS, parse_file, parse_override
from baa.config.renamed import outdated, upgrade_settings
from baa.config.requeued import as_at_first
from baa.config.schema import STREAMS, BackboneConfig, Config, TrainerConfig, WandbConfig
from baa.config.validate import check, check_sources, walk
from baa.errors import InputError
from baa.model_card import FORMAT, model_path, networks_of, read_card

WEIGHTS_BY_NAME = ("imagenet", "none", "locator")


class _Layer(NamedTuple):
    """Settings, where they were given, and the dotted key of an override."""

    settings: DictConfig
    place: str
    key: str | None = None


def load(files: Sequence[Path], overrides: Sequence[str] = (), base: dict[str, Any] | None = None) -> Config:
    """Merge settings: the schema's defaults, `base`, each file in order, the overrides. Later ones win.

    Without `base` this is a new run. If it has `weights`, the settings of that model's networks override the files, and the
    overrides override both. A new run must also have a start for each of its networks.

    Args:
        files: YAML files. The run's default name is the last file's stem.
        overrides: `key.key=value`, as a W&B agent writes them too: with leading dashes, or those of a requeued trial.
        base: the settings of a trained model, also of an earlier version of this schema.

    Raises:
        InputError: a file that is missing or not YAML, an unknown or renamed key, a value of the wrong type or out of range,
            settings that contradict each other.
    """
    layers = [] if base is None else [_of_model(upgrade_settings(base), "the model's settings")]
    layers += [_read(file) for file in files]
    given, card = [_override(override) for override in as_at_first(overrides)], None
    config = _merge([*layers, *given])
    if base is None and config.weights:
        card = read_card(model_path(config.weights), "weights")
        config = _merge([*layers, _of_model(_settings_to_start_from(card), f"weights: {config.weights}"), *given])
    config.name = config.name or (files[-1].stem if files else "")
    check(config)
    if base is None:
        check_sources(config, card)
    return config


def replaced_by_weights(files: Sequence[Path], overrides: Sequence[str], config: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that files give and that the model named by `weights` replaces, by dotted key: (given, taken)."""
    if not config.weights:
        return {}
    layers = [_read(file) for file in files]
    given = {key for layer in layers for key in _keys(layer.settings)}
    changed = differences(_merge([*layers, *map(_override, overrides)]), config)
    return {key: values for key, values in changed.items() if key in given}


def _keys(settings: DictConfig, prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, DictConfig):
            yield from _keys(value, f"{prefix}{name!s}.")
        else:
            yield f"{prefix}{name!s}"


def _of_model(settings: dict[str, Any], place: str) -> _Layer:
    refuse_interpolations(settings, place)
    return _Layer(OmegaConf.create(settings), place)


def _settings_to_start_from(card: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model's networks and crops; those that its card does not have yet are the defaults."""
    settings = upgrade_settings(card["settings"])
    if card["format"] == FORMAT:  # an older one names the networks' arguments differently
        as_built(card["stage"], settings, card["networks"])
        settings = merged(settings, network_settings(card["stage"], card["networks"]))
    crops = to_plain(load([], base={"crops": settings.get("crops", {})}))["crops"]
    return networks_of(card | {"settings": settings | {"crops": crops}})


def as_built(stage: str, settings: dict[str, Any], networks: dict[str, Any]) -> dict[str, Any]:
    """The plain settings of a trained model. For its networks, those that they were built with.

    Args:
        stage: that trained it last.
        settings: of its run, also of an earlier version of this schema.
        networks: arguments of `Locator` and `Estimator`, by name.

    Raises:
        InputError: arguments or settings that are unknown, of a wrong type or out of range.
    """
    built = network_settings(stage, networks)
    whole = to_plain(load([], base=merged(upgrade_settings(settings), built)))
    if different := first_difference(built, whole):
        raise InputError(f"networks: {different} has a value of another type")
    return whole


def _read(file: Path) -> _Layer:
    if not file.is_file():
        names = {known.name: known for folder in (Path("conf"), file.parent) for known in folder.glob("*.yaml")}
        near = difflib.get_close_matches(file.name, names, 1, 0.4)
        raise InputError(f"{file}: no such file" + (f"; did you mean {names[near[0]]}?" if near else ""))
    try:
        content = OmegaConf.create(parse_file(file.read_bytes()))
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return _current(_Layer(content, str(file)))


def _override(override: str) -> _Layer:
    key, equals, value = (text := override.lstrip("-")).partition("=")
    if not equals and not (override.startswith("--") and KINDS.get(key) is bool):
        raise InputError(f"command line: {override!r} is not key=value, such as locator.fit.epochs=5")
    try:
        return _current(_Layer(parse_override(key, value if equals else None), "command line", key))
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise InputError(f"command line: {text}: {' '.join(str(error).split())}") from error


def _current(layer: _Layer) -> _Layer:
    """The layer, unless it has names of an earlier version or interpolations that are not allowed."""
    settings = _plain(layer.settings)
    refuse_other_interpolations(settings, layer.place)
    if changes := list(outdated(settings)):
        raise InputError(f"{layer.place}: {'; '.join(changes)}")
    return layer


@functools.cache
def _defaults() -> DictConfig:
    return OmegaConf.structured(Config)


def _merge(layers: Sequence[_Layer]) -> Config:
    whole = copy.deepcopy(_defaults())  # a fifth of the time of making it anew
    for layer in layers:
        try:
            whole.merge_with(layer.settings)  # `OmegaConf.merge` would copy the whole for each override
        except (OmegaConfBaseException, TypeError) as error:
            key = getattr(error, "full_key", None) or layer.key
            raise InputError(": ".join(filter(None, [layer.place, key, _reason(error, key or "")]))) from error
    try:
        config = cast(Config, OmegaConf.to_object(whole))
    except OmegaConfBaseException as error:
        raise InputError(f"{error.full_key}: {_reason(error, '')}") from error
    refuse_interpolations(asdict(config), "an environment variable")  # it would be resolved when this is read again
    return config


def _reason(error: Exception, key: str) -> str:
    reason = str(error).splitlines()[0].rstrip(".")
    if isinstance(error, ConfigKeyError):
        if near := re.findall(r"'(\w+)'", reason.partition("Did you mean")[2]):
            return f"no such setting; did you mean {' or '.join(near)}?"
        group = key.rpartition(".")[0]
        return f"no such setting; `{f'python -m baa.fit --help {group}'.strip()}` lists them"
    if found := re.search(r"is not a subclass of (\w+)", reason):
        return f"{found[1]} is a group of settings, not a value"
    return "give a list, such as [a,b]" if "is not a ListConfig" in reason else reason


def to_plain(config: Config) -> dict[str, Any]:
    """The settings as nested dicts of lists, strings, numbers and None."""
    return asdict(config)


def _plain(settings: DictConfig) -> dict[str, Any]:
    return {str(key): value for key, value in cast(dict[Any, Any], OmegaConf.to_container(settings)).items()}


def to_use(settings: dict[str, Any]) -> dict[str, Any]:
    """The plain settings of a trained model, current names, without the settings of the machine that trained it."""
    config = load([], base=settings)
    config.trainer = TrainerConfig(precision=config.trainer.precision)
    return to_plain(config)


def to_share(settings: dict[str, Any]) -> dict[str, Any]:
    """The plain settings of a model to share, without files, folders, columns, folds, machines, accounts."""
    config = load([], base=to_use(settings))
    config.name, config.runs, config.weights = "", Config.runs, None
    config.wandb, config.data.table = WandbConfig(), TableConfig()
    for name in ("root", "roi", "capitate"):
        setattr(config.data, name, None)
    config.data.cache, config.data.split.test_ids = Config().data.cache, None
    config.data.split.folds, config.data.split.fold = None, 0
    config.locator.checkpoint = config.joint.start = None
    for backbone in (config.locator.backbone, *(getattr(config.estimator, name) for name in STREAMS)):
        if backbone.weights not in WEIGHTS_BY_NAME:
            backbone.weights = BackboneConfig.weights
    return to_plain(config)


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by dotted key: (old, new)."""
    pairs = zip(walk(old), walk(new), strict=True)
    return {key: (before, after) for (key, _, before), (_, _, after) in pairs if before != after}


def to_yaml(config: Config) -> str:
    """The settings as YAML, which `load` reads."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))
