"""What is said of a file."""

import pytest

from baa.training.answers import _unlike, years_and_months


def test_no_two_pictures_share_a_name_even_where_capitals_do_not_count():
    names = _unlike(["1", "1", "1_2", "a", "A", "b"])
    assert names[0] == "1"
    assert names[3] == "a"
    assert names[5] == "b"
    assert len({name.lower() for name in names}) == 6


@pytest.mark.parametrize(("months", "said"), [(0, "0 y 0 m"), (11.6, "1 y 0 m"), (147.2, "12 y 3 m")])
def test_ages_are_said_as_clinicians_write_them(months, said):
    assert years_and_months(months) == said
