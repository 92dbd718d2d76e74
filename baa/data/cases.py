"""A case: a radiograph, what is known of its child, and what is wrong with those that cannot be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from baa.data.radiograph import Radiograph
from baa.errors import InputError
from baa.patient import MAX_MONTHS, Sex

SPLITS = ("train", "val", "test")

SHOWN_PROBLEMS = 50


@runtime_checkable
class Image(Protocol):
    """Anything that a radiograph can be had from: a file, a stretch of a tar, a phantom's recipe."""

    @property
    def name(self) -> str: ...

    def fingerprint(self) -> bytes: ...

    def load(self, px: int) -> Radiograph: ...


class Box(NamedTuple):
    """A true box, as shares of the radiograph's width and height (before padding)."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Case:
    """One radiograph.

    `months` is None where only a prediction is wanted; `split` is one of `SPLITS` where the source says so. The true
    carpal and hand boxes and the centre of the capitate (x, y) serve to measure where the locator looks, never to train.
    """

    id: str
    image: Image
    months: float | None
    sex: Sex
    split: str | None = None
    carpal: Box | None = None
    hand: Box | None = None
    capitate: tuple[float, float] | None = None


class Problem(NamedTuple):
    """A row or an image that cannot be used, where it is, and why."""

    id: str
    place: str
    reason: str


def refusal(problems: Sequence[Problem], listed_in: Path) -> InputError:
    """One error that lists the problems, and names the file that has room for all of them."""
    lines = [f"  {problem.place}: {problem.reason} (id {problem.id or '?'})" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  ... and {len(problems) - SHOWN_PROBLEMS} more")
    mend = f"mend them (all stand in {listed_in}), or set them aside with data.on_bad=skip"
    return InputError(f"{len(problems)} bad rows or images; {mend}:\n" + "\n".join(lines))


def parse_months(text: str, months_per_unit: float = 1.0, *, most: float = MAX_MONTHS) -> float:
    """An age cell to months, at most so many.

    Raises:
        ValueError: no number, below 0, or above the most.
    """
    if not text.strip():
        raise ValueError("age is missing")
    try:
        months = float(text) * months_per_unit
    except ValueError:
        raise ValueError(f"age {text!r} is not a number") from None
    if not 0 <= months <= most:
        raise ValueError(f"age {text!r} is outside 0 to {most:g} months")
    return months


SPLIT_WORDS = {
    **{split: split for split in SPLITS},
    **{"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"},
}


def parse_split(text: str) -> str | None:
    """A split cell (`train`, `Validation`, ...) to one of `SPLITS`; blank is None.

    Raises:
        ValueError: a word that is none of these.
    """
    word = text.strip().lower()
    if word and word not in SPLIT_WORDS:
        raise ValueError(f"split {text!r} is none of {', '.join(SPLITS)}; name no column of splits if they are not to count")
    return SPLIT_WORDS[word] if word else None


SEX_WORDS = {
    **dict.fromkeys(("male", "m", "boy"), Sex.MALE),
    **dict.fromkeys(("female", "f", "girl"), Sex.FEMALE),
    **dict.fromkeys(("", "unknown", "u", "nan", "none", "?"), Sex.UNKNOWN),
}


CODES_OF = {
    "male": {**dict.fromkeys(("true", "1", "1.0"), Sex.MALE), **dict.fromkeys(("false", "0", "0.0"), Sex.FEMALE)},
    "female": {**dict.fromkeys(("true", "1", "1.0"), Sex.FEMALE), **dict.fromkeys(("false", "0", "0.0"), Sex.MALE)},
}
"""By the column's name, which alone says what a yes means."""


def parse_sex(text: str, column: str = "sex") -> Sex:
    """A sex cell (`male`, `M`, `True` in a column `male`, ...) to a `Sex`; blank is unknown.

    Raises:
        ValueError: a word that is none of these, or a code in a column that is not called after a sex.
    """
    word = text.strip().lower()
    words = SEX_WORDS | CODES_OF.get(column.strip().lower(), {})
    if word in words:
        return words[word]
    if any(word in codes for codes in CODES_OF.values()):
        raise ValueError(f"sex {text!r} may mean either in a column {column!r}; write male or female")
    raise ValueError(f"sex {text!r} is none of male, female, unknown")
