"""Grad-CAM lights up what moved the age, in any autograd mode, and leaves no trace."""

import contextlib

import pytest
import torch
from torch.testing import assert_close

from baa.errors import InputError
from baa.nets.attention import READINGS, closed_heat_map, heat_map
from baa.nets.heads import AgeHead
from baa.nets.locator import PooledAgeHead

MODES = [contextlib.nullcontext, torch.no_grad, torch.inference_mode]


@pytest.fixture
def features():
    return torch.rand(3, 4, 5, 6)


def head(kind="regression"):
    return PooledAgeHead(AgeHead(4, kind=kind, mean_months=100.0, std_months=40.0)).eval()


@pytest.mark.parametrize("mode", MODES)
def test_a_linear_head_gives_its_own_weights(features, mode):
    net = head()
    weights = 40.0 * net.age.layers[-1].weight[0] / (5 * 6)  # the mean spreads each weight over the cells
    expected = torch.einsum("c,bchw->bhw", weights.detach(), features)

    with mode():
        assert_close(heat_map(net, features.clone(), "relu"), expected.relu())
        assert_close(heat_map(net, features.clone(), "absolute"), expected.abs())


@pytest.mark.parametrize("mode", MODES)
def test_deviation_takes_the_side_of_the_mean_that_the_hand_is_on(features, mode):
    net = head()
    older = net(features).months >= 100.0
    signed = torch.einsum("c,bchw->bhw", net.age.layers[-1].weight[0].detach() * 40 / 30, features)
    expected = torch.where(older[:, None, None], signed, -signed).relu()

    with mode():
        assert_close(heat_map(net, features.clone(), "deviation"), expected)


def test_the_class_reading_follows_the_likeliest_bin(features):
    net = head("distribution")
    likeliest = net(features).logits.argmax(dim=1)
    expected = torch.einsum("bc,bchw->bhw", net.age.layers[-1].weight[likeliest].detach() / 30, features).relu()

    assert_close(heat_map(net, features, "class"), expected)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kind", ["regression", "distribution"])
def test_the_closed_form_is_grad_cam(features, kind, reading):
    net = head(kind)
    if kind == "regression" and reading == "class":
        with pytest.raises(InputError, match="needs locator.head=distribution"):
            closed_heat_map(net, features, reading)
        return
    features = features - 0.5
    found = heat_map(net, features, reading)
    assert found.max() > 0
    assert_close(closed_heat_map(net, features, reading), found)


def test_a_head_with_a_hidden_layer_has_no_closed_form(features):
    net = PooledAgeHead(AgeHead(4, kind="distribution", hidden=8)).eval()
    with pytest.raises(InputError, match="no closed form"):
        closed_heat_map(net, features, "class")


def test_the_class_reading_of_a_regression_is_refused(features):
    with pytest.raises(InputError, match="needs locator.head=distribution"):
        heat_map(head(), features, "class")


def test_images_of_a_batch_do_not_mix(features):
    net = head("distribution")
    alone = torch.cat([heat_map(net, image[None], "absolute") for image in features])

    assert_close(heat_map(net, features, "absolute"), alone)


def test_no_hook_and_no_gradient_stays_behind(features):
    net = head()
    heat_map(net, features, "relu")

    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_autocast_around_it_changes_nothing(features):
    net = head()
    plain = heat_map(net, features, "relu")
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(heat_map(net, features, "relu"), plain)
