"""YAML files and overrides as text. The schema, not YAML, says what a value is: `0123`, `3.10`, `No` and `1e3` may be names."""

import re
from types import NoneType
from typing import Any, get_args, get_origin

import yaml
from omegaconf import DictConfig, OmegaConf

from baa.config.schema import Config
from baa.config.validate import walk
from baa.errors import InputError

KINDS: dict[str, Any] = {key: entry.type for key, entry, _ in walk(Config())}
"""Type of each setting, by its dotted key. Groups have none."""

ITEM = "[]"
"""Stands after the key of a list for each of its items."""

KINDS |= {key + ITEM: get_args(kind)[0] for key, kind in KINDS.items() if get_origin(kind) is list}

NULLS = ("null", "Null", "NULL", "~")
"""Words for null, as YAML has them. An empty value is null too."""

PYTHON_NULL = "None"
"""W&B writes the null of a sweep file like this on the command line of a trial."""

MERGE = "<<"

QUOTED = re.compile(r"""(['"])((?:(?!\1).)*)\1""")

NOT_FINITE = re.compile(r"([-+]?)\.(inf|nan)", re.IGNORECASE)
"""YAML's words for numbers that are not finite. Python has no point in them."""


def parse_file(content: bytes) -> dict[str, Any]:
    """Parse a config file. Keys may be nested or dotted: `locator.fit.epochs: 2`.

    Returns:
        Nested dicts of text, lists and None.

    Raises:
        YAMLError: it is not YAML.
        InputError: it is not `key: value`, or has a key twice.
    """
    node = yaml.compose(content, yaml.SafeLoader)
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"a {'list' if isinstance(node, yaml.SequenceNode) else 'text'}; a config is key: value")
    return _mapping(node, "")


def parse_override(key: str, text: str | None) -> DictConfig:
    """Parse an override, `key=text`.

    Args:
        key: dotted.
        text: None for a key alone, with which W&B switches on a setting that is true or false.

    Raises:
        YAMLError: the text of a list or a group is not YAML.
    """
    kind, settings = KINDS.get(key), OmegaConf.create()
    value: Any = text
    if text is None:
        value = True
    elif kind is None or get_origin(kind) is list:
        node = yaml.compose(text, yaml.SafeLoader)
        value = None if node is None else _value(node, key)
    elif quoted := QUOTED.fullmatch(text):
        value = quoted[2]
    else:
        value = None if text == PYTHON_NULL and _may_be_null(key) else _unquoted(text, key)
    OmegaConf.update(settings, key, value)
    return settings


def _may_be_null(key: str) -> bool:
    return key not in KINDS or NoneType in get_args(KINDS[key])  # a group without content is refused by its key


def _unquoted(text: str, key: str) -> str | None:
    if not text or (text in NULLS and _may_be_null(key)):
        return None
    kind = KINDS.get(key)
    return NOT_FINITE.sub(r"\1\2", text) if float in (kind, *get_args(kind)) else text


def _value(node: yaml.Node, key: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, key)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, key + ITEM) for item in node.value]
    return _unquoted(node.value, key) if node.style is None else node.value


def _mapping(node: yaml.MappingNode, above: str) -> dict[str, Any]:
    own: dict[str, Any] = {}
    inherited: dict[str, Any] = {}
    for name_node, value_node in node.value:
        if not isinstance(name_node, yaml.ScalarNode):
            raise InputError(f"{above or 'a config'}: a list or a group as a key; a config is key: value")
        name = name_node.value
        if name == MERGE:
            for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                if not isinstance(source, yaml.MappingNode):
                    raise InputError(f"{above}.{MERGE}: not a group of settings; give *NAME of a group with &NAME")
                inherited = _mapping(source, above) | inherited
            continue
        key = f"{above}.{name}".lstrip(".")
        value, (first, *below) = _value(value_node, key), name.split(".")
        for part in reversed(below):
            value = {part: value}
        _put(own, first, value, f"{above}.{first}".lstrip("."))
    return inherited | own


def _put(settings: dict[str, Any], name: str, value: Any, key: str) -> None:
    if name not in settings:
        settings[name] = value
    elif isinstance(settings[name], dict) and isinstance(value, dict):
        for inner, item in value.items():
            _put(settings[name], inner, item, f"{key}.{inner}")
    else:
        raise InputError(f"{key}: given twice; keep one of them")
