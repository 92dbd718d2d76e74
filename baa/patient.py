"""What is known of a patient: sex and age."""

from enum import IntEnum

MAX_MONTHS = 240.0
"""The oldest bone age."""

MONTHS_PER = {"years": 12.0, "months": 1.0, "weeks": 12 / 52.1775, "days": 12 / 365.2425}


class Sex(IntEnum):
    """The sex of a case; unknown is a state of its own, never a guess."""

    FEMALE = 0
    MALE = 1
    UNKNOWN = 2


def years_and_months(months: float) -> str:
    """As clinicians write an age: 12 y 3 m."""
    years, rest = divmod(round(months), int(MONTHS_PER["years"]))
    return f"{years} y {rest} m"
