"""The ends of a model's answers: found where they saturate, absent where they do not."""

from pathlib import Path

import pytest
import torch

from baa.data.cases import Case
from baa.data.read.file import ImageFile
from baa.metrics.conformal import calibrate, interval_of
from baa.metrics.saturation import OLDEST, OR_LESS, OR_MORE, YOUNGEST, end_of, open_end, saturated
from baa.patient import MAX_MONTHS, Sex

TRUE = torch.linspace(1, 228, 200).double()


def cases_of(months, sex=Sex.FEMALE):
    return [Case(id=str(i), image=ImageFile(Path("film.png")), months=float(age), sex=sex) for i, age in enumerate(months)]


def noisy(months):
    return (months + torch.randn(len(months), generator=torch.Generator().manual_seed(0)).double() * 3).float()


def test_a_model_that_never_leaves_18_to_189_months_is_open_at_both_ends():
    table = saturated(cases_of(TRUE), noisy(TRUE.clamp(18, 189)))
    oldest, youngest = end_of(table, OLDEST, Sex.FEMALE), end_of(table, YOUNGEST, Sex.FEMALE)

    assert oldest == pytest.approx(189, abs=1.5)
    assert youngest == pytest.approx(18, abs=1.5)
    assert open_end(table, Sex.FEMALE, oldest) == OR_MORE
    assert open_end(table, Sex.FEMALE, youngest) == OR_LESS
    assert open_end(table, Sex.FEMALE, 100.0) == ""
    assert open_end(table, Sex.MALE, 239.0) == ""


def test_a_model_that_reaches_all_ages_is_open_only_at_the_very_last():
    table = saturated(cases_of(TRUE), noisy(TRUE))
    assert end_of(table, OLDEST, Sex.FEMALE) > 222
    assert end_of(table, YOUNGEST, Sex.FEMALE) < 7


def test_an_interval_at_a_saturated_end_contains_all_ages_beyond():
    cases, months = cases_of(TRUE), noisy(TRUE.clamp(18, 189))
    table = calibrate(cases, months) | saturated(cases, months)
    low, high = interval_of(table, Sex.FEMALE, 190.0, 0.9)
    assert (150 < low < 190, high) == (True, MAX_MONTHS)
    assert interval_of(table, Sex.FEMALE, 15.0, 0.9)[0] == 0.0
    old = TRUE > 192
    inside = [
        edges[0] <= age <= edges[1]
        for age, answer in zip(TRUE[old].tolist(), months[old].tolist(), strict=True)
        if (edges := interval_of(table, Sex.FEMALE, answer, 0.9))
    ]
    closed = calibrate(cases, months)
    before = [
        interval_of(closed, Sex.FEMALE, answer, 0.9)[1] >= age
        for age, answer in zip(TRUE[old].tolist(), months[old].tolist(), strict=True)
    ]
    assert sum(inside) / len(inside) > sum(before) / len(before)


def test_few_cases_have_no_ends_and_cases_without_an_age_do_not_count():
    few = cases_of(TRUE[:40])
    assert saturated(few, TRUE[:40].float()) == {}
    unknown = [Case(id=f"x{i}", image=ImageFile(Path("film.png")), months=None, sex=Sex.FEMALE) for i in range(30)]
    assert saturated(few + unknown, torch.cat([TRUE[:40], TRUE[:30]]).float()) == {}


def test_without_sex_the_ends_are_those_of_the_predictions_without_sex():
    cases = cases_of(TRUE[::2], Sex.MALE) + cases_of(TRUE[1::2])
    table = saturated(cases, noisy(TRUE), torch.full((200,), 120.0))
    assert {group.partition("/")[2] for group in table} == {"male", "female", "unknown"}
    assert end_of(table, OLDEST, Sex.UNKNOWN) == 120.0
