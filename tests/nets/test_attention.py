"""Heat maps are Grad-CAM of the age, in any autograd mode, and leave no hook and no gradient behind."""

import contextlib

import pytest
import torch
from torch.testing import assert_close

from baa.errors import InputError
from baa.nets.attention import (
    CAM_MODES,
    Attribution,
    GaussianFilter,
    closed_form_grad_cam,
    grad_cam,
    locator_heat_map,
)
from baa.nets.boxes import HEAT_GRID, BoxFinder, upsample
from baa.nets.heads import AgeHead
from baa.nets.locator import Locator, PooledAgeHead
from baa.nets.view import View

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
        assert_close(grad_cam(net, features.clone(), "relu"), expected.relu())
        assert_close(grad_cam(net, features.clone(), "absolute"), expected.abs())


@pytest.mark.parametrize("mode", MODES)
def test_deviation_is_evidence_for_the_hands_own_side_of_the_mean_age(features, mode):
    net = head()
    older = net(features).months >= 100.0
    signed = torch.einsum("c,bchw->bhw", net.age.layers[-1].weight[0].detach() * 40 / 30, features)
    expected = torch.where(older[:, None, None], signed, -signed).relu()

    with mode():
        assert_close(grad_cam(net, features.clone(), "deviation"), expected)


def test_class_is_evidence_for_the_likeliest_bin(features):
    net = head("distribution")
    likeliest = net(features).logits.argmax(dim=1)
    expected = torch.einsum("bc,bchw->bhw", net.age.layers[-1].weight[likeliest].detach() / 30, features).relu()

    assert_close(grad_cam(net, features, "class"), expected)


@pytest.mark.parametrize("cam_mode", CAM_MODES)
@pytest.mark.parametrize("kind", ["regression", "distribution"])
def test_the_closed_form_is_grad_cam(features, kind, cam_mode):
    net = head(kind)
    if kind == "regression" and cam_mode == "class":
        with pytest.raises(InputError, match="needs locator.head=distribution"):
            closed_form_grad_cam(net, features, cam_mode)
        return
    features = features - 0.5
    found = grad_cam(net, features, cam_mode)
    assert found.max() > 0
    assert_close(closed_form_grad_cam(net, features, cam_mode), found)


def test_a_head_with_a_hidden_layer_has_no_closed_form(features):
    net = PooledAgeHead(AgeHead(4, kind="distribution", hidden=8)).eval()
    with pytest.raises(InputError, match="no closed form"):
        closed_form_grad_cam(net, features, "class")


def test_class_is_refused_for_a_regression_head(features):
    with pytest.raises(InputError, match="needs locator.head=distribution"):
        grad_cam(head(), features, "class")


def test_the_map_of_an_image_does_not_depend_on_its_batch(features):
    net = head("distribution")
    alone = torch.cat([grad_cam(net, image[None], "absolute") for image in features])

    assert_close(grad_cam(net, features, "absolute"), alone)


def test_no_hook_and_no_gradient_is_left_behind(features):
    net = head()
    grad_cam(net, features, "relu")

    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_autocast_does_not_change_the_map(features):
    net = head()
    plain = grad_cam(net, features, "relu")
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(grad_cam(net, features, "relu"), plain)


LAYERS = Attribution(method="gradient_x_activation", mode="absolute", layers=["8", "16"])


@pytest.mark.parametrize("mode", MODES)
def test_gradient_times_activation_is_summed_over_channels_and_layers(locator, mode):
    image, kept = torch.rand(2, 1, 96, 96), {}
    locator.requires_grad_(False)
    hooks = [
        locator.layer(name).register_forward_hook(lambda _, __, out, name=name: kept.update({name: out.requires_grad_()}))
        for name in LAYERS.layers
    ]
    months = locator(image.clone().requires_grad_()).months
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(months.sum(), list(kept.values()))
    maps = [(gradient * kept[name]).sum(dim=1).abs().detach() for gradient, name in zip(gradients, kept, strict=True)]
    maps = [one / one.mean(dim=(1, 2), keepdim=True) for one in maps]
    expected = maps[0] + torch.nn.functional.interpolate(maps[1][:, None], maps[0].shape[1:], mode="bilinear")[:, 0]

    with mode():
        found = locator_heat_map(locator, image.clone(), LAYERS)
    assert_close(found, expected)
    assert not found.requires_grad
    assert not any(module._forward_hooks for module in locator.modules())


def test_a_flip_averaged_map_of_the_mirror_image_is_the_mirrored_map(locator):
    image = torch.rand(2, 1, 96, 96)
    found, mirrored = (locator_heat_map(locator, one, LAYERS, flip_average=True) for one in (image, image.flip(-1)))

    assert_close(mirrored, found.flip(-1))


def test_smoothing_keeps_the_heat_and_widens_a_point():
    point = torch.zeros(1, 40, 40)
    point[0, 20, 12] = 1.0
    smoothed, finder = GaussianFilter(0.05, 40)(point), BoxFinder(40)

    assert smoothed.sum().item() == pytest.approx(1.0, abs=1e-3)
    variance = finder.moments(smoothed)[1][0] - finder.moments(point)[1][0]
    assert_close(variance.sqrt(), torch.tensor([0.05, 0.05]), atol=0.002, rtol=0)


def test_a_layer_of_another_network_is_refused(locator):
    with pytest.raises(InputError, match=r"no layer '7'; give a stride \(2, 4, 8, 16, 32\) or a layer's name, such as layer4"):
        locator_heat_map(locator, torch.rand(1, 1, 96, 96), LAYERS._replace(layers=["7"]))


def test_a_random_locator_does_not_point_at_the_carpus(phantom_batch):
    """The map of an untrained network follows brightness and borders, not the wrist."""
    torch.manual_seed(3)
    locator = Locator(backbone="resnet10t", px=96, head="distribution").eval()
    heat = locator_heat_map(locator, View.of(phantom_batch).render(96), LAYERS, flip_average=True)
    heat, finder = GaussianFilter(0.06, HEAT_GRID)(upsample(heat, HEAT_GRID)), BoxFinder()
    found = finder.lowest_mode(heat, finder.peak(heat), 0.5)

    assert ((found - torch.tensor([0.5, 0.7])).norm(dim=1) > 0.1).float().mean() >= 0.5
