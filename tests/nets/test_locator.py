"""The locator's second head, and its middle layers."""

import pytest
import torch
from torch.testing import assert_close

from baa.errors import InputError
from baa.nets.backbone import Backbone
from baa.nets.locator import Locator


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "inception_v3", "convnext_atto"])
def test_the_last_layer_of_a_stride_is_what_the_layer_returns_and_the_feature_map_stays_the_same(name):
    backbone, image, kept = Backbone(name).eval(), torch.rand(2, 1, 128, 128), []
    hook = backbone.layer("16").register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.no_grad():
        final, middle = backbone.with_middle(image, "16")
        hook.remove()
        assert_close(final, backbone(image))
    assert_close(middle, kept[0])
    assert middle.shape[1] == backbone.channels_of("16")


@pytest.mark.parametrize("head", ["regression", "distribution"])
def test_the_age_is_the_mean_of_both_heads_and_both_are_trained(head):
    from baa.modules.locator import LocatorModule

    locator = Locator(backbone="resnet10t", px=64, head=head, auxiliary_stride=16).eval()
    options = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "constant"}
    module = LocatorModule(locator, loss="l1", **options)
    prediction, months = locator(torch.rand(3, 1, 64, 64)), torch.tensor([60.0, 100.0, 140.0])
    own, early = prediction.alone
    assert_close(prediction.months, (own.months + early.months) / 2)

    loss = module.head.loss(prediction, months, "l1") + module.penalty(prediction, months)
    expected = locator.head.age.loss(own._replace(months=prediction.months), months, "l1")
    assert_close(loss, expected + locator.auxiliary.age.loss(early, months, "l1"))
    loss.backward()
    assert all(parameter.grad is not None for parameter in locator.parameters() if parameter.requires_grad)


def test_a_stride_that_the_backbone_lacks_is_refused():
    with pytest.raises(InputError, match="backbone resnet10t: no feature map of stride 7; its strides are 2, 4, 8, 16, 32"):
        Locator(backbone="resnet10t", px=64, auxiliary_stride=7)


def test_hide_and_seek_hides_about_its_share_of_the_patches_of_each_image():
    from baa.modules.locator import PATCHES, hide_patches

    hidden = hide_patches(torch.ones(64, 1, 96, 96), 0.35) == 0
    patches = hidden.unfold(2, 96 // PATCHES, 96 // PATCHES).unfold(3, 96 // PATCHES, 96 // PATCHES)[:, 0]
    assert (patches.flatten(3).all(dim=3) | ~patches.flatten(3).any(dim=3)).all()
    assert hidden.float().mean().item() == pytest.approx(0.35, abs=0.03)
    assert len({tuple(image.flatten().tolist()) for image in patches.flatten(3)[..., 0]}) == 64
