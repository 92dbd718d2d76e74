"""A network of every family of timm trains a step, or is refused in one line before any data is read."""

import re

import pytest
import timm
import torch
from tiny_run import settings

from baa.errors import InputError

SMALL = (
    "test",
    "zepto",
    "atto",
    "femto",
    "pico",
    "nano",
    "xxs",
    "xxt",
    "micro",
    "tiny",
    "mini",
    "small",
    "050",
    "_s",
    "_0",
    "18",
)
"""Parts of the names of small networks."""

CANDIDATES = 4


def smallest(family):
    """The network of a family with the fewest parameters, among those whose names promise few."""
    names = sorted(timm.list_models(module=family), key=lambda name: (not any(word in name for word in SMALL), len(name), name))

    def parameters(name):
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name).parameters())

    return min(names[:CANDIDATES], key=parameters)


def outcome(name, px, folder, *more):
    """`trains`, or the line that refuses the network."""
    from baa.assembly.modules import estimator_arguments, locator_arguments
    from baa.assembly.small_inputs import refuse_small_inputs
    from baa.config.load import load
    from baa.config.networks import SCALE
    from baa.nets.estimator import Estimator
    from baa.nets.locator import Locator

    streams = ["estimator.streams=[whole]", f"estimator.whole.name={name}", f"estimator.whole_px={px}"]
    config = load([], settings(folder, f"locator.backbone.name={name}", f"locator.px={px}", *streams, *more))
    try:
        refuse_small_inputs(config)
    except InputError as refusal:
        return str(refusal)
    image = torch.rand(2, 1, px, px)
    Locator(**locator_arguments(config, **SCALE))(image).months.sum().backward()
    Estimator(**estimator_arguments(config, **SCALE))({"whole": image}, torch.tensor([0, 1])).months.sum().backward()
    return "trains"


@pytest.mark.slow
@pytest.mark.parametrize("family", timm.list_modules())
def test_a_network_of_each_family_trains_or_is_refused_in_a_line(family, tmp_path):
    for px in (128, 300):
        assert re.fullmatch(".+", outcome(smallest(family), px, tmp_path))


@pytest.mark.parametrize(
    ("name", "px", "more", "line"),
    [
        ("test_resnet", 96, [], "trains"),
        ("nest_tiny", 300, [], "locator.px: 300 pixels, which nest_tiny does not take; give another side, such as"),
        ("nest_tiny", 96, [], "trains"),
        ("vit_tiny_patch16_224", 224, [], "backbone 'vit_tiny_patch16_224' returns [197, 192], not a feature map"),
        (
            "hrnet_w18_small",
            300,
            [],
            "locator.px: 300 pixels, which hrnet_w18_small does not take; give another side, such as 288, 320, 256",
        ),
        (
            "hrnet_w18_small",
            128,
            ["locator.fit.progressive_resize_from=0.5", "locator.fit.epochs=4"],
            "locator.px: 128 pixels, 80 in some epochs (progressive_resize_from=0.5), which hrnet_w18_small does not take; "
            "give locator.fit.progressive_resize_from=1, or another side",
        ),
        (
            "test_resnet",
            96,
            ["estimator.streams=[hand]", "crops.cam_method=gradient_x_activation", "crops.cam_layers=[fc]"],
            "crops.cam_layers: layer 'fc' of test_resnet returns [",
        ),
    ],
)
def test_the_line_names_the_setting_the_network_and_the_sides_that_work(name, px, more, line, tmp_path):
    assert outcome(name, px, tmp_path, *more).startswith(line)
