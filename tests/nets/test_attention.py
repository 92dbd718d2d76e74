"""Heat maps are Grad-CAM of the age, in any autograd mode, and leave no hook and no gradient behind."""

import contextlib

import pytest
import torch
from torch.testing import assert_close

from baa.errors import InputError
from baa.nets.attention import CAM_MODES, closed_form_heat_map, heat_map
from baa.nets.heads import AgeHead
from baa.nets.locator import PooledAgeHead

MODES = [contextlib.nullcontext, torch.no_grad, torch.inference_mode]


@pytest.fixture
def features():
    return torch.rand(3, 4, 5, 6)


def head(kind="regression"):
    return PooledAgeHead(AgeHead(4, kind=kind, mean_months=100.0, std_months=40.0)).eval()


@pytest.mark.parametrize("mode", MODES)
def test_the_map_of_a_linear_head_is_its_weights_times_the_features(features, mode):
    net = head()
    weights = 40.0 * net.age.layers[-1].weight[0] / (5 * 6)  # the mean spreads each weight over the cells
    expected = torch.einsum("c,bchw->bhw", weights.detach(), features)

    with mode():
        assert_close(heat_map(net, features.clone(), "relu"), expected.relu())
        assert_close(heat_map(net, features.clone(), "absolute"), expected.abs())


@pytest.mark.parametrize("mode", MODES)
def test_deviation_is_evidence_for_the_hands_own_side_of_the_mean_age(features, mode):
    net = head()
    older = net(features).months >= 100.0
    signed = torch.einsum("c,bchw->bhw", net.age.layers[-1].weight[0].detach() * 40 / 30, features)
    expected = torch.where(older[:, None, None], signed, -signed).relu()

    with mode():
        assert_close(heat_map(net, features.clone(), "deviation"), expected)


def test_class_is_evidence_for_the_likeliest_bin(features):
    net = head("distribution")
    likeliest = net(features).logits.argmax(dim=1)
    expected = torch.einsum("bc,bchw->bhw", net.age.layers[-1].weight[likeliest].detach() / 30, features).relu()

    assert_close(heat_map(net, features, "class"), expected)


@pytest.mark.parametrize("cam_mode", CAM_MODES)
@pytest.mark.parametrize("kind", ["regression", "distribution"])
def test_the_closed_form_is_grad_cam(features, kind, cam_mode):
    net = head(kind)
    if kind == "regression" and cam_mode == "class":
        with pytest.raises(InputError, match="needs locator.head=distribution"):
            closed_form_heat_map(net, features, cam_mode)
        return
    features = features - 0.5
    found = heat_map(net, features, cam_mode)
    assert found.max() > 0
    assert_close(closed_form_heat_map(net, features, cam_mode), found)


def test_a_head_with_a_hidden_layer_has_no_closed_form(features):
    net = PooledAgeHead(AgeHead(4, kind="distribution", hidden=8)).eval()
    with pytest.raises(InputError, match="no closed form"):
        closed_form_heat_map(net, features, "class")


def test_class_is_refused_for_a_regression_head(features):
    with pytest.raises(InputError, match="needs locator.head=distribution"):
        heat_map(head(), features, "class")


def test_the_map_of_an_image_does_not_depend_on_its_batch(features):
    net = head("distribution")
    alone = torch.cat([heat_map(net, image[None], "absolute") for image in features])

    assert_close(heat_map(net, features, "absolute"), alone)


def test_no_hook_and_no_gradient_is_left_behind(features):
    net = head()
    heat_map(net, features, "relu")

    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_autocast_does_not_change_the_map(features):
    net = head()
    plain = heat_map(net, features, "relu")
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(heat_map(net, features, "relu"), plain)
