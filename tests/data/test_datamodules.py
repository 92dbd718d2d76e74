"""What happens to a batch on its way from the cache to the nets."""

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


def told(girls, training, **settings):
    data = HandDataModule({}, batch_size=16, **settings)
    data.trainer = SimpleNamespace(training=training)
    return data.on_after_batch_transfer(girls, 0).sex


def test_training_keeps_a_share_of_the_sexes_to_itself(girls):
    sex = told(girls, True, hide_sex=0.25)
    assert 0.15 < (sex == Sex.UNKNOWN).float().mean() < 0.35
    assert set(sex.tolist()) == {Sex.FEMALE, Sex.UNKNOWN}
    assert (girls.sex == Sex.FEMALE).all()


def test_the_sex_is_told_unless_asked_otherwise_and_always_in_evaluation(girls):
    assert (told(girls, True) == Sex.FEMALE).all()
    assert (told(girls, False, hide_sex=0.25) == Sex.FEMALE).all()
