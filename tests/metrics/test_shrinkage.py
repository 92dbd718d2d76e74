"""A line spreads ages that lie too close to their mean."""

import numpy as np
import pytest
import torch

from baa.data.cases import Case
from baa.data.sources.phantom import Phantom
from baa.metrics.shrinkage import spreading_line
from baa.patient import Sex


def cases(ages):
    return [Case(str(i), Phantom(0, 0, 100.0, Sex.MALE), months, Sex.MALE) for i, months in enumerate(ages)]


def test_the_line_undoes_shrinkage_and_shift_under_noise():
    true = np.linspace(10.0, 220.0, 400)
    noise = np.random.default_rng(0).normal(0, 8, 400)
    shrunk = torch.tensor(130.0 + 0.95 * (true - 120.0) + noise, dtype=torch.float32)
    line = spreading_line(cases(true), shrunk)
    corrected = line.of(shrunk.numpy())

    for low, high in ((10, 60), (60, 120), (120, 180), (180, 221)):
        assert abs(np.mean((corrected - true)[(true >= low) & (true < high)])) < 2.0
    assert line.slope == pytest.approx(1 / 0.95, abs=0.01)
    assert line.of(130.0) == pytest.approx(120.0, abs=1.0)


@pytest.mark.parametrize(
    "ages", [np.linspace(10, 220, 50), np.full(400, 100.0), np.linspace(90, 140, 400)], ids=["few", "one age", "narrow"]
)
def test_few_cases_or_a_narrow_range_of_ages_teach_nothing(ages):
    assert spreading_line(cases(ages), torch.tensor(ages) * 0.9) == (0.0, 1.0)


def test_ages_are_never_drawn_together_and_never_spread_far():
    true = np.linspace(10.0, 220.0, 400)
    assert spreading_line(cases(true), torch.tensor(1.2 * true)).slope == 1.0
    assert spreading_line(cases(true), torch.tensor(0.2 * true)).slope == 1.1
    assert spreading_line(cases([*true, None]), torch.tensor([*(true + 3), 0.0])).of(103.0) == pytest.approx(100.0)
