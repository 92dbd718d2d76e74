"""The two-stream network: the shapes of method and paper, every parameter in use."""

import pytest
import torch

from baa.nets.estimator import Estimator
from baa.patient import Sex


@pytest.fixture
def estimator():
    return Estimator(backbones={"carpal": "resnet10t", "hand": "resnet10t"}, width=16)


@pytest.fixture
def crops():
    return {"carpal": torch.rand(4, 1, 64, 64), "hand": torch.rand(4, 1, 64, 64)}


def test_every_parameter_but_the_fixed_weights_learns(estimator, crops):
    estimator(crops, torch.tensor([0, 1, 2, 0])).months.square().mean().backward()

    unmoved = [name for name, p in estimator.named_parameters() if p.grad is None or not p.grad.any()]
    unmoved = [name for name in unmoved if ".net.layer" not in name]  # residuals start at zero
    assert sorted(unmoved) == ["exchange.weight", "weights"]


def test_both_crops_and_the_sex_move_the_age(estimator, crops):
    estimator.eval()
    sex = torch.full((4,), int(Sex.FEMALE))
    base = estimator(crops, sex).months

    for name in crops:
        assert (estimator(crops | {name: torch.rand(4, 1, 64, 64)}, sex).months != base).all()
    assert (estimator(crops, torch.full((4,), int(Sex.MALE))).months != base).all()


@pytest.mark.parametrize("place", ["projected", "fused", "joined"])
def test_the_sex_comes_in_where_it_is_asked_to_and_only_there(crops, place):
    backbones = {"carpal": "resnet10t", "hand": "resnet10t"}
    female, male = (torch.full((4,), int(sex)) for sex in (Sex.FEMALE, Sex.MALE))
    knows, ignores = (Estimator(backbones=backbones, width=16, sex_at=at).eval() for at in ([place], []))

    assert (knows(crops, female).months != knows(crops, male).months).all()
    assert (ignores(crops, female).months == ignores(crops, male).months).all()


def test_a_stream_of_no_weight_has_no_say(crops):
    weights = {"carpal": 0.0, "hand": 1.0}
    estimator = Estimator(
        backbones={"carpal": "resnet10t", "hand": "resnet10t"}, width=16, exchange_mode="none", stream_weights=weights
    ).eval()
    sex = torch.zeros(4, dtype=torch.long)
    base = estimator(crops, sex).months

    assert (estimator(crops | {"carpal": torch.rand(4, 1, 64, 64)}, sex).months == base).all()
    assert (estimator(crops | {"hand": torch.rand(4, 1, 64, 64)}, sex).months != base).all()


def test_what_is_learnt_is_told_by_name_and_what_is_fixed_is_not():
    backbones = {"carpal": "resnet10t", "hand": "resnet10t"}
    fixed = Estimator(backbones=backbones, width=16, alpha_learnt=False)
    learnt = Estimator(backbones=backbones, width=16, exchange=0.25, exchange_learnt=True, weights_learnt=True, alpha_sex=0.5)

    assert fixed.learnt_weights() == {}
    told = {name: round(float(weight), 3) for name, weight in learnt.learnt_weights().items()}
    assert told == {
        "exchange": 0.25,
        "weight_carpal": 1.0,
        "weight_hand": 1.0,
        "alpha_image_fused_carpal": 1.0,
        "alpha_sex_fused_carpal": 0.5,
        "alpha_image_fused_hand": 1.0,
        "alpha_sex_fused_hand": 0.5,
    }


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
