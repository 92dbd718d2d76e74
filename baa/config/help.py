"""Help on settings, generated from the schema: all of them by group, or one at length."""

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from baa.config.load import load
from baa.config.schema import Config
from baa.config.validate import allowed, walk
from baa.errors import InputError

TYPES = {str: "word", int: "whole number", float: "number", bool: "true or false", NoneType: "null"}
KEY_WIDTH = 46


def list_settings() -> str:
    """Every setting with its default and meaning, one line each, by group. Groups of the same kind are listed once."""
    sections: dict[type, str] = {}
    groups = list(_groups(Config()))
    for key, meaning, node in groups:
        alike = {other: twin for other, _, twin in groups if type(twin) is type(node)}
        title = key
        if len(alike) > 1:
            title, names = _pattern(list(alike))
            meaning = f"{str(node.__doc__).partition('.')[0]} (* is {', '.join(names)})"
            alike = dict(zip(names, alike.values(), strict=True))
        lines = [_line(title, entry, alike) for entry in fields(node) if not is_dataclass(getattr(node, entry.name))]
        sections.setdefault(type(node), "\n".join([f"{title}: {meaning}" if key else meaning, *lines]))
    return "\n\n".join(sections.values())


def describe(key: str) -> str:
    """One setting, or each of a group: meaning, type, default, range and an example.

    Args:
        key: dotted, such as `locator.fit.lr` or `crops`.

    Raises:
        InputError: there is no such setting.
    """
    found = [(name, *rest) for name, *rest in walk(Config()) if name == key or name.startswith(f"{key}.")]
    if not found:
        load([], [f"{key}=0"], base={})  # raises, and suggests a key
        raise InputError(f"{key}: no such setting; `python -m baa.fit --help` lists them")
    headings = [f"{group}: {meaning}" for group, meaning, _ in _groups(Config()) if group == key]
    return "\n\n".join([*headings, *(_paragraph(name, entry, value) for name, entry, value in found)])


def _groups(node: Any, key: str = "", meaning: str = "the run") -> Iterator[tuple[str, str, Any]]:
    yield key, meaning, node
    for entry in fields(node):
        if is_dataclass(below := getattr(node, entry.name)):
            yield from _groups(below, f"{key}.{entry.name}".lstrip("."), entry.metadata["help"])


def _pattern(keys: list[str]) -> tuple[str, list[str]]:
    """What keys have in common, and the names in which they differ: `*.fit` of `locator.fit` and `joint.fit`."""
    columns = list(zip(*(key.split(".") for key in keys), strict=True))
    differing = next(names for names in columns if len(set(names)) > 1)
    return ".".join("*" if names is differing else names[0] for names in columns), list(differing)


def _line(group: str, entry: Field[Any], alike: dict[str, Any]) -> str:
    """`  key=default  meaning`, and the defaults that differ in groups of the same kind."""
    defaults = {name: _text(getattr(node, entry.name)) for name, node in alike.items()}
    first = next(iter(defaults.values()))
    others = ", ".join(f"{name}: {text}" for name, text in defaults.items() if text != first)
    key, words = f"{group}.{entry.name}".lstrip("."), ", ".join(_words(entry))
    text = f"  {key + '=' + first:{KEY_WIDTH}}  {entry.metadata['help']}"
    return text + (f" [{words}]" if words else "") + (f" ({others})" if others else "")


def _paragraph(key: str, entry: Field[Any], value: Any) -> str:
    override = f"{key}={_text(_other(entry, value))}"
    lines = [key, f"  {entry.metadata['help']}", f"  type     {_type(entry.type)}", f"  default  {_text(value)}"]
    if words := allowed(entry):
        lines.append(f"  allowed  {words}")
    quote = "'" if "[" in override else ""
    return "\n".join([*lines, f"  example  python -m baa.fit --config conf/rsna.yaml {quote}{override}{quote}"])


def _words(entry: Field[Any]) -> tuple[str, ...]:
    """The words that a setting, or each item of its list, may be; empty if it is free."""
    return entry.metadata["choices"] or (get_args(entry.type) if get_origin(entry.type) is Literal else ())


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) is UnionType:
        return " or ".join(_type(part) for part in get_args(kind))
    return f"list, each item a {_type(get_args(kind)[0])}" if get_origin(kind) is list else TYPES[kind]


def _text(value: Any) -> str:
    """A value as an override has it."""
    if isinstance(value, list):
        return f"[{','.join(_text(item) for item in value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _other(entry: Field[Any], value: Any) -> Any:
    """A value that is allowed and, where that is simple, not the default."""
    kinds = get_args(entry.type) if get_origin(entry.type) is UnionType else (entry.type,)
    if words := _words(entry):
        word = next(word for word in words if word not in (value, [value]))
        return [word] if isinstance(value, list) else word
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float) or (value is None and {int, float} & set(kinds)):
        most = entry.metadata["high"] or 2
        half = value / 2 if value else most / 2 if most >= 1 else 0.5
        return max(int(half) if int in kinds else half, entry.metadata["low"] or 0)
    return value if value or isinstance(value, list) else "NAME"
