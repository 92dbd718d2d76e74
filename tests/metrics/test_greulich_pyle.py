"""The standard deviation of bone age among healthy children."""

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
def test_deviations_are_those_of_the_atlas_and_interpolated_between_its_ages(months, sex, deviation):
    assert standard_deviation(months, sex) == pytest.approx(deviation)


@pytest.mark.parametrize(
    ("months", "sex"), [(2, Sex.MALE), (205, Sex.MALE), (193, Sex.FEMALE), (math.nan, Sex.MALE), (60, Sex.UNKNOWN)]
)
def test_there_is_none_outside_the_table(months, sex):
    assert standard_deviation(months, sex) is None
