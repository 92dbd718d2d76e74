"""A patient's sex and age."""

from enum import IntEnum
from typing import NamedTuple

MAX_MONTHS = 240.0
"""The highest bone age."""

MAX_CHRONOLOGICAL_MONTHS = 1440.0
"""The highest chronological age: adults get an answer with a warning."""

MONTHS_PER = {"years": 12.0, "months": 1.0, "weeks": 12 / 52.1775, "days": 12 / 365.2425}


class Sex(IntEnum):
    """The sex of a case. Unknown is a value of its own and is never guessed."""

    FEMALE = 0
    MALE = 1
    UNKNOWN = 2


class Patient(NamedTuple):
    """The patient in a file's header: sex, and chronological age in months or None."""

    sex: Sex = Sex.UNKNOWN
    months: float | None = None


def years_and_months(months: float) -> str:
    """Format an age as clinicians write it: 12 y 3 m."""
    years, rest = divmod(round(months), int(MONTHS_PER["years"]))
    return f"{years} y {rest} m"
