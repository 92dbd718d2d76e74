"""Crops and sex to age: the shapes of the paper, every parameter trained."""

import pytest
import torch

from baa.nets.estimator import Estimator
from baa.patient import Sex

BACKBONES = {"carpal": "resnet10t", "hand": "resnet10t"}


def make_estimator(auxiliary=False, **fusion):
    return Estimator(backbones=BACKBONES, fusion={"width": 16} | fusion, auxiliary=auxiliary)


@pytest.fixture
def estimator():
    return make_estimator()


@pytest.fixture
def crops():
    return {"carpal": torch.rand(4, 1, 64, 64), "hand": torch.rand(4, 1, 64, 64)}


def test_every_parameter_but_the_fixed_weights_is_trained(estimator, crops):
    estimator(crops, torch.tensor([0, 1, 2, 0])).months.square().mean().backward()

    without = [name for name, p in estimator.named_parameters() if p.grad is None or not p.grad.any()]
    without = [name for name in without if ".net.layer" not in name]  # residual branches start at zero
    assert sorted(without) == ["fusion.exchange.weight", "fusion.weights"]


def test_the_age_depends_on_both_crops_and_on_sex(estimator, crops):
    estimator.eval()
    sex = torch.full((4,), int(Sex.FEMALE))
    base = estimator(crops, sex).months

    for name in crops:
        assert (estimator(crops | {name: torch.rand(4, 1, 64, 64)}, sex).months != base).all()
    assert (estimator(crops, torch.full((4,), int(Sex.MALE))).months != base).all()


@pytest.mark.parametrize("place", ["projected", "fused", "joined"])
def test_the_age_depends_on_sex_only_if_it_is_added_somewhere(crops, place):
    female, male = (torch.full((4,), int(sex)) for sex in (Sex.FEMALE, Sex.MALE))
    with_sex, without_sex = (make_estimator(sex_at=at).eval() for at in ([place], []))

    assert (with_sex(crops, female).months != with_sex(crops, male).months).all()
    assert (without_sex(crops, female).months == without_sex(crops, male).months).all()
    assert list(with_sex.fusion.gates) == [place]


@pytest.mark.parametrize(("place", "constant"), [("fused", True), ("projected", False)])
def test_what_sex_adds_to_a_regression_is_a_constant_unless_the_exchange_follows(crops, place, constant):
    estimator = make_estimator(sex_at=[place]).eval()
    female, male = (estimator(crops, torch.full((4,), int(sex))).months for sex in (Sex.FEMALE, Sex.MALE))

    assert ((male - female).std().item() < 1e-4) == constant


def test_the_paper_adds_sex_before_the_exchange():
    from pathlib import Path

    from baa.config.load import load

    config = load([Path(__file__).parents[2] / "conf" / "paper.yaml"], ["data.root=."])
    assert (config.estimator.fusion.sex_at, config.estimator.hidden) == (["projected"], 0)


def test_a_stream_of_weight_zero_does_not_change_the_age(crops):
    estimator = make_estimator(mode="none", weights={"carpal": 0.0, "hand": 1.0}).eval()
    sex = torch.zeros(4, dtype=torch.long)
    base = estimator(crops, sex).months

    assert (estimator(crops | {"carpal": torch.rand(4, 1, 64, 64)}, sex).months == base).all()
    assert (estimator(crops | {"hand": torch.rand(4, 1, 64, 64)}, sex).months != base).all()


def test_only_fusion_weights_that_are_trained_are_listed():
    fixed = make_estimator(alpha_learned=False)
    learned = make_estimator(exchange=0.25, exchange_learned=True, weights_learned=True, alpha_sex=0.5)

    assert fixed.fusion.learned_weights() == {}
    listed = {name: round(float(weight), 3) for name, weight in learned.fusion.learned_weights().items()}
    assert listed == {
        "exchange": 0.25,
        "weight_carpal": 1.0,
        "weight_hand": 1.0,
        "alpha_image_fused_carpal": 1.0,
        "alpha_sex_fused_carpal": 0.5,
        "alpha_image_fused_hand": 1.0,
        "alpha_sex_fused_hand": 0.5,
    }


def test_the_own_age_of_a_stream_depends_on_its_crop_only(crops):
    estimator = make_estimator(auxiliary=True)
    sex = torch.full((4,), int(Sex.FEMALE))
    base = estimator(crops, sex).alone
    other = estimator(crops | {"hand": torch.rand(4, 1, 64, 64)}, sex).alone

    assert [bool((a.months != b.months).any()) for a, b in zip(base, other, strict=True)] == [False, True]
    assert len(estimator.eval()(crops, sex).alone) == len(base)


@pytest.mark.slow
def test_the_papers_networks_have_the_papers_shapes():
    from baa.nets.locator import Locator

    view = torch.rand(1, 1, 300, 300)
    estimator = Estimator(backbones={"carpal": "legacy_xception", "hand": "resnet50"}).eval()
    assert Locator().eval().features(view).shape == (1, 2048, 8, 8)
    assert estimator.stream("carpal").backbone(view).shape == (1, 2048, 10, 10)
    assert estimator.stream("carpal").feature_map(view).shape == (1, 512, 5, 5)
    assert estimator.stream("hand").feature_map(view).shape == (1, 2048, 10, 10)
