"""Ages in the units and the words of clinics."""

import pytest

from baa.patient import MONTHS_PER, years_and_months


@pytest.mark.parametrize(("months", "said"), [(0, "0 y 0 m"), (11.6, "1 y 0 m"), (147.2, "12 y 3 m")])
def test_ages_are_said_as_clinicians_write_them(months, said):
    assert years_and_months(months) == said


def test_a_year_is_one_in_every_unit():
    assert [MONTHS_PER[unit] * count for unit, count in (("days", 365.2425), ("weeks", 52.1775))] == pytest.approx([12, 12])
