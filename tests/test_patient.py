"""Units and format of ages."""

import pytest

from baa.patient import MONTHS_PER, years_and_months


@pytest.mark.parametrize(("months", "text"), [(0, "0 y 0 m"), (11.6, "1 y 0 m"), (147.2, "12 y 3 m")])
def test_ages_are_formatted_as_clinicians_write_them(months, text):
    assert years_and_months(months) == text


def test_a_year_is_twelve_months_in_every_unit():
    assert [MONTHS_PER[unit] * count for unit, count in (("days", 365.2425), ("weeks", 52.1775))] == pytest.approx([12, 12])
