"""Training hides the sex of some cases; evaluation of none."""

from types import SimpleNamespace

import pytest
import torch

from baa.data.batch import Sample
from baa.data.datamodules import HandDataModule
from baa.patient import Sex


@pytest.fixture
def girls():
    count = 400
    nothing = torch.full((count, 2, 4), torch.nan)
    sex = torch.full((count,), int(Sex.FEMALE))
    image = torch.zeros(count, 1, 4, 4, dtype=torch.uint8)
    return Sample(image, torch.zeros(count), sex, torch.arange(count), nothing, nothing[:, 0, :2], nothing)


def transferred(girls, training, **settings):
    data = HandDataModule({}, batch_size=16, **settings)
    data.trainer = SimpleNamespace(training=training)
    return data.on_after_batch_transfer(girls, 0).sex


def test_training_hides_the_sex_of_a_share_of_cases(girls):
    sex = transferred(girls, True, sex_dropout=0.25)
    assert 0.15 < (sex == Sex.UNKNOWN).float().mean() < 0.35
    assert set(sex.tolist()) == {Sex.FEMALE, Sex.UNKNOWN}
    assert (girls.sex == Sex.FEMALE).all()


def test_sex_is_not_hidden_by_default_and_never_in_evaluation(girls):
    assert (transferred(girls, True) == Sex.FEMALE).all()
    assert (transferred(girls, False, sex_dropout=0.25) == Sex.FEMALE).all()
