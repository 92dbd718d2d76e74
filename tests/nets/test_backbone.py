"""Backbones take weights by name, by order, or not at all; what does not fit is refused whole."""

import pytest
import torch
from torch.testing import assert_close

from baa.errors import InputError
from baa.nets.backbone import Backbone, load_weights


def test_each_network_is_normalised_as_on_imagenet():
    assert Backbone("resnet10t").mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert Backbone("tf_efficientnet_lite0").mean.flatten().tolist() == pytest.approx([0.5, 0.5, 0.5])


def test_an_unknown_network_is_named_with_its_neighbours():
    with pytest.raises(InputError, match=r"resnet51.*resnet"):
        Backbone("resnet51")


def test_a_network_without_a_feature_map_is_refused():
    for name in ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"):
        with pytest.raises(InputError, match=f"'{name}' gives no feature map"):
            Backbone(name)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "convnext_atto", "resnet10t"])
def test_what_no_gradient_reaches_does_not_wait_for_one(name):
    backbone = Backbone(name)
    backbone(torch.rand(2, 1, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)
    assert sum(p.requires_grad for p in backbone.parameters()) > 10


def test_packaged_imagenet_weights_tell_edges_from_noise():
    """ImageNet weights were loaded, not a random start: their first layer's filters are smooth and far from iid."""
    trained, random = Backbone("tf_efficientnet_lite0"), Backbone("tf_efficientnet_lite0")
    load_weights(trained, "imagenet")
    filters = [net.net.conv_stem.weight.flatten(1) for net in (trained, random)]
    ranks = [torch.linalg.svdvals(f)[:3].sum() / torch.linalg.svdvals(f).sum() for f in filters]

    assert ranks[0] > 1.5 * ranks[1]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_file_fills_by_name_or_by_order(tmp_path, renamed):
    donor, taker = Backbone("resnet10t"), Backbone("resnet10t")
    tensors = donor.net.state_dict()
    torch.save({f"other.{name}" if renamed else name: t for name, t in tensors.items()}, tmp_path / "w.pt")
    load_weights(taker, str(tmp_path / "w.pt"))

    for name, tensor in taker.net.state_dict().items():
        assert_close(tensor, tensors[name])


def test_a_file_of_another_network_is_refused_and_nothing_changed(tmp_path):
    taker = Backbone("resnet10t")
    before = {name: tensor.clone() for name, tensor in taker.net.state_dict().items()}
    torch.save(Backbone("resnet14t").net.state_dict(), tmp_path / "w.pt")

    with pytest.raises(InputError, match=r"w\.pt does not fit resnet10t"):
        load_weights(taker, str(tmp_path / "w.pt"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in taker.net.state_dict().items())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.pt is not a file"):
        load_weights(Backbone("resnet10t"), str(tmp_path / "nowhere.pt"))
