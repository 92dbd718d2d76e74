"""The ages of two streams: their intervals by sex, and what difference is unusual."""

from pathlib import Path

import pytest
import torch

from baa.data.cases import Case
from baa.data.read.file import ImageFile
from baa.metrics.conformal import calibrate
from baa.metrics.stream_ages import APART, stream_errors, stream_interval, unusual_difference
from baa.patient import Sex

CASES = [Case(id=str(i), image=ImageFile(Path("film.png")), months=100.0, sex=Sex(i % 2)) for i in range(200)]
OFF = torch.arange(200) / 10


def table(with_sex, without_sex=None):
    return stream_errors(CASES, ["carpal", "hand"], with_sex, with_sex if without_sex is None else without_sex)


def test_each_stream_has_its_own_interval():
    found = table(torch.stack([100 + OFF, torch.full((200,), 101.0)], dim=1))
    low, high = stream_interval(found, "carpal", Sex.FEMALE, 120.0, 0.9)
    assert (120 - low, high - 120) == (pytest.approx(18, abs=0.3), pytest.approx(18, abs=0.3))
    assert stream_interval(found, "hand", Sex.MALE, 120.0, 0.9) == (119.0, 121.0)
    assert stream_interval(found, "whole", Sex.MALE, 120.0, 0.9) is None


def test_five_in_a_hundred_differences_are_unusual():
    found = table(torch.stack([100 + OFF, torch.full((200,), 100.0)], dim=1))
    limit = unusual_difference(found)
    assert sum(off > limit for off in OFF.tolist()) / len(OFF) == pytest.approx(0.05, abs=0.006)
    assert found[APART] == sorted(found[APART])
    assert unusual_difference({}) is None


def test_the_groups_do_not_mix_with_those_of_the_age():
    months = torch.stack([100 + OFF, 100 - OFF], dim=1)
    assert not calibrate(CASES, months[:, 0]).keys() & table(months).keys()


def test_one_stream_has_no_difference():
    assert APART not in stream_errors(CASES, ["hand"], OFF[:, None], OFF[:, None])
