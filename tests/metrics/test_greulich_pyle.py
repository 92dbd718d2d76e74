"""How far apart the bone ages of healthy children of one age lie."""

import math

import pytest

from baa.metrics.greulich_pyle import standard_deviation
from baa.patient import Sex


@pytest.mark.parametrize(
    ("months", "sex", "deviation"),
    [
        (3, Sex.MALE, 0.69),
        (204, Sex.MALE, 13.05),
        (126, Sex.MALE, (9.79 + 10.09) / 2),
        (60, Sex.FEMALE, 11.65),
        (192, Sex.FEMALE, 7.31),
    ],
)
def test_the_atlas_says_it_at_its_ages_and_a_line_between_them(months, sex, deviation):
    assert standard_deviation(months, sex) == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("months", "sex"), [(2, Sex.MALE), (205, Sex.MALE), (193, Sex.FEMALE), (math.nan, Sex.MALE), (60, Sex.UNKNOWN)]
)
def test_nothing_is_made_up_outside_the_table(months, sex):
    assert standard_deviation(months, sex) is None
