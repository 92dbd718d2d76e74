"""A case: a radiograph with the age and sex of its child; and the problems of rows that make none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from baa.data.read.radiograph import Radiograph
from baa.errors import InputError
from baa.names import printable
from baa.patient import MAX_CHRONOLOGICAL_MONTHS, MAX_MONTHS, Sex

SPLITS = ("train", "val", "test")

SHOWN_PROBLEMS = 50


@runtime_checkable
class Image(Protocol):
    """A source of one radiograph: a file, a member of a tar, a phantom.

    `fingerprint` changes whenever `load` returns other pixels. `load` decodes, padded to a square of `px`.
    """

    @property
    def name(self) -> str: ...

    def fingerprint(self) -> bytes: ...

    def load(self, px: int) -> Radiograph: ...


class Box(NamedTuple):
    """A box in shares of the radiograph's width and height, before padding."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Case:
    """One radiograph.

    months: bone age; None if only a prediction is wanted.
    split: one of `SPLITS` if the source gives one.
    patient: whose radiograph it is, if the source names patients; empty if not.
    gt_boxes: annotated box of each region, by its name. Like `capitate`, the center (x, y), it serves evaluation only.
    """

    id: str
    image: Image
    months: float | None
    sex: Sex
    split: str | None = None
    gt_boxes: dict[str, Box] = field(default_factory=dict)
    capitate: tuple[float, float] | None = None
    patient: str = ""

    @property
    def group(self) -> str:
        """What a split keeps together: the patient, or the case alone."""
        return f"patient {self.patient}" if self.patient else self.id


class Problem(NamedTuple):
    """A row or an image that cannot be used: its id, its place and the reason."""

    id: str
    place: str
    reason: str


CaseList = tuple[list[Case], list[Problem]]


def refusal(problems: Sequence[Problem], listed_in: Path) -> InputError:
    """One error that shows the first problems and names the file that lists all."""
    shown = [[printable(text) for text in problem] for problem in problems[:SHOWN_PROBLEMS]]
    lines = [f"  {place}: {reason} (id {id_ or '?'})" for id_, place, reason in shown]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  ... and {len(problems) - SHOWN_PROBLEMS} more")
    remedy = f"fix them (full list: {listed_in}) or skip them with data.on_bad=skip"
    return InputError(f"data: {len(problems)} rows or images cannot be used; {remedy}:\n" + "\n".join(lines))


NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?")
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
"""A number whose comma may separate thousands or decimals."""


def parse_months(text: str, months_per_unit: float = 1.0, *, most: float = MAX_MONTHS) -> float:
    """Convert an age cell to months. A comma may be the decimal point.

    Raises:
        ValueError: the age is missing, not a number, ambiguous, or outside 0 to `most` months.

    Example:
        >>> parse_months("10,5", months_per_unit=12.0)
        126.0
    """
    number = text.strip()
    if not number:
        raise ValueError("age is missing")
    if not NUMBER.fullmatch(number):
        raise ValueError(f"age {text!r} is not a number")
    if THOUSANDS.fullmatch(number):
        raise ValueError(f"age {text!r} is ambiguous: its comma may separate decimals or thousands; write a decimal point")
    months = float(number.replace(",", ".")) * months_per_unit
    if not 0 <= months <= most:
        raise ValueError(f"age {text!r} is outside 0 to {most:g} months")
    return months


def parse_chronological(text: str) -> float | None:
    """Convert a chronological age in months; None if it is blank or 0, with which devices and tables mean "not known".

    Raises:
        ValueError: it is not a number, ambiguous, negative, or above `MAX_CHRONOLOGICAL_MONTHS`.

    Example:
        >>> parse_chronological("130.5"), parse_chronological("0")
        (130.5, None)
    """
    return (parse_months(text, most=MAX_CHRONOLOGICAL_MONTHS) or None) if text.strip() else None


SPLIT_WORDS = {
    **{split: split for split in SPLITS},
    **{"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"},
}


def parse_split(text: str) -> str | None:
    """Convert a split cell (`train`, `Validation`, ...) to one of `SPLITS`; blank is None.

    Raises:
        ValueError: another word.

    Example:
        >>> parse_split("Validation")
        'val'
    """
    word = text.strip().lower()
    if word and word not in SPLIT_WORDS:
        raise ValueError(f"split {text!r} is none of {', '.join(SPLITS)}; to ignore the column, set data.table.split=null")
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
"""Codes by the name of their column, which alone defines what a yes means."""


def parse_sex(text: str, column: str = "sex") -> Sex:
    """Convert a sex cell (`male`, `M`, `True` in a column `male`, ...) to a `Sex`; blank is unknown.

    Raises:
        ValueError: another word, or a code in a column that is not named male or female.

    Example:
        >>> parse_sex("F"), parse_sex("True", column="male")
        (<Sex.FEMALE: 0>, <Sex.MALE: 1>)
    """
    word = text.strip().lower()
    words = SEX_WORDS | CODES_OF.get(column.strip().lower(), {})
    if word in words:
        return words[word]
    if any(word in codes for codes in CODES_OF.values()):
        raise ValueError(f"sex {text!r} is ambiguous in a column {column!r}; write male or female")
    raise ValueError(f"sex {text!r} is none of male, female, unknown")
