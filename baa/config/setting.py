"""Fields of the schema's dataclasses: default, help and range of a setting in one place."""

from dataclasses import field
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    positive: bool = False,
    choices: tuple[str, ...] = (),
    most: float | None = None,
) -> Any:
    """A setting.

    Args:
        default: its default; a list or a function is copied or called for each config.
        help: what it means, one line.
        low, high: its range, both ends included.
        positive: it is above 0.
        most: a value above it is taken for an error, also in the card of a model, which may come from anybody.
        choices: the words that it, or each item of a list, may be. Types that are `Literal` have theirs already.
    """
    metadata = {"help": help, "low": low, "high": high, "positive": positive, "choices": choices, "most": most}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(kind: type, help: str, **changed: Any) -> Any:
    """A group of settings: a dataclass of this schema, with other defaults for some of its settings."""
    return field(default_factory=lambda: kind(**changed), metadata={"help": help})
