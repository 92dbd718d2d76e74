"""Weights are loaded by name or by order; weights of another network are refused and change nothing."""

import pytest
import torch
from torch.testing import assert_close

from baa.errors import InputError
from baa.nets.backbone import Backbone, load_weights


def test_each_network_is_normalized_as_on_imagenet():
    assert Backbone("resnet10t").mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert Backbone("tf_efficientnet_lite0").mean.flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_the_error_of_an_unknown_network_suggests_similar_names():
    with pytest.raises(InputError, match=r"resnet51.*resnet"):
        Backbone("resnet51")


def test_a_network_without_a_feature_map_is_refused():
    for name in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):
        with pytest.raises(InputError, match=rf"'{name}' returns .*, not a feature map"):
            Backbone(name)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "resnet10t"])
def test_every_parameter_that_requires_a_gradient_has_one(name):
    backbone = Backbone(name)
    backbone(torch.rand(2, 1, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)
    assert sum(p.requires_grad for p in backbone.parameters()) > 10


def test_the_imagenet_weights_of_the_package_are_trained_filters():
    """The filters of the first layer are smooth: few singular values hold most of them, unlike those of a random start."""
    trained, random = Backbone("tf_efficientnet_lite0"), Backbone("tf_efficientnet_lite0")
    load_weights(trained, "imagenet")
    filters = [net.net.conv_stem.weight.flatten(1) for net in (trained, random)]
    ranks = [torch.linalg.svdvals(f)[:3].sum() / torch.linalg.svdvals(f).sum() for f in filters]

    assert ranks[0] > 1.5 * ranks[1]


@pytest.mark.parametrize("renamed", [False, True])
def test_the_weights_of_a_file_are_loaded_by_name_or_by_order(tmp_path, renamed):
    source, target = Backbone("resnet10t"), Backbone("resnet10t")
    tensors = source.net.state_dict()
    torch.save({f"other.{name}" if renamed else name: t for name, t in tensors.items()}, tmp_path / "w.pt")
    load_weights(target, str(tmp_path / "w.pt"))

    for name, tensor in target.net.state_dict().items():
        assert_close(tensor, tensors[name])


def test_a_file_of_another_network_is_refused_and_changes_nothing(tmp_path):
    target = Backbone("resnet10t")
    before = {name: tensor.clone() for name, tensor in target.net.state_dict().items()}
    torch.save(Backbone("resnet14t").net.state_dict(), tmp_path / "w.pt")

    with pytest.raises(InputError, match=r"w\.pt does not fit resnet10t"):
        load_weights(target, str(tmp_path / "w.pt"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.net.state_dict().items())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.pt does not exist"):
        load_weights(Backbone("resnet10t"), str(tmp_path / "nowhere.pt"))
