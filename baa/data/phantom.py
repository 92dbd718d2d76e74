"""Synthetic."""
from baa.data.cases import Case


def phantom_cases(count: int, *, seed: int) -> list[Case]:
    return []
