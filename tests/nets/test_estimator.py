"""The two-stream network: the shapes of method and paper, every parameter in use."""

import pytest
import torch

from baa.nets.estimator import Estimator
from baa.nets.fusion import Sex


@pytest.fixture
def estimator():
    return Estimator(backbones={"carpal": "resnet10t", "hand": "resnet10t"}, width=16)


@pytest.fixture
def crops():
    return {"carpal": torch.rand(4, 1, 64, 64), "hand": torch.rand(4, 1, 64, 64)}


def test_every_parameter_but_the_fixed_exchange_learns(estimator, crops):
    estimator(crops, torch.tensor([0, 1, 2, 0])).months.square().mean().backward()

    unmoved = [name for name, p in estimator.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in unmoved if ".net.layer" not in name] == ["exchange.weight"]  # residuals start at zero


def test_both_crops_and_the_sex_move_the_age(estimator, crops):
    estimator.eval()
    sex = torch.full((4,), int(Sex.FEMALE))
    base = estimator(crops, sex).months

    for name in crops:
        assert (estimator(crops | {name: torch.rand(4, 1, 64, 64)}, sex).months != base).all()
    assert (estimator(crops, torch.full((4,), int(Sex.MALE))).months != base).all()


def test_alone_each_stream_answers_from_its_own_crop_only(crops):
    estimator = Estimator(backbones={"carpal": "resnet10t", "hand": "resnet10t"}, width=16, auxiliary=True)
    sex = torch.full((4,), int(Sex.FEMALE))
    base = estimator(crops, sex).alone
    other = estimator(crops | {"hand": torch.rand(4, 1, 64, 64)}, sex).alone

    assert [bool((a.months != b.months).any()) for a, b in zip(base, other, strict=True)] == [False, True]
    assert not estimator.eval()(crops, sex).alone


@pytest.mark.slow
def test_the_papers_networks_have_the_papers_shapes():
    from baa.nets.locator import Locator

    view = torch.rand(1, 1, 300, 300)
    estimator = Estimator(backbones={"carpal": "legacy_xception", "hand": "resnet50"}).eval()
    assert Locator().eval().features(view).shape == (1, 2048, 8, 8)
    assert estimator.stream("carpal").backbone(view).shape == (1, 2048, 10, 10)
    assert estimator.stream("carpal").feature_map(view).shape == (1, 512, 5, 5)
    assert estimator.stream("hand").feature_map(view).shape == (1, 2048, 10, 10)
