"""Sides of views and crops, tried with their networks before anything is trained."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from baa.config.schema import Config
from baa.errors import InputError
from baa.nets.backbone import Backbone
from baa.nets.estimator import Stream
from baa.nets.two_stage import WHOLE, scaled_side


def refuse_small_inputs(config: Config) -> None:
    """Refuse views and crops that are too small for the networks that are to be trained on them.

    The networks are built on `meta`, where nothing is allocated or computed.

    Raises:
        InputError: a network does not take the side of its input, or the smaller one of the first epochs.
    """
    with torch.random.fork_rng(devices=()), torch.device("meta"):
        for key, px, backbone, build, share in _inputs(config):
            net = build().eval()
            for side in dict.fromkeys((px, scaled_side(px, share))):
                try:
                    fits = min(_feature_map(net, torch.empty(1, 1, side, side)).shape[2:]) > 0
                except (AssertionError, RuntimeError, ValueError):
                    fits = False
                if not fits:
                    first = "" if side == px else f", {side} in the first epochs (progressive_resize_from={share})"
                    raise InputError(f"{key}: {px} pixels{first}, which {backbone} does not take; give another side")


def _inputs(config: Config) -> Iterator[tuple[str, int, str, Callable[[], nn.Module], float]]:
    """Setting and side of each input, and name, constructor and smallest share of the side of the network that reads it."""
    locator, estimator = config.locator, config.estimator
    if "locator" in config.stages:
        share = locator.fit.progressive_resize_from
        yield "locator.px", locator.px, locator.backbone.name, partial(Backbone, locator.backbone.name), share
    for name in estimator.streams if "estimator" in config.stages else ():
        stream = getattr(estimator, name)
        key, px = (
            ("estimator.whole_px", estimator.whole_px)
            if name == WHOLE
            else (f"crops.{name}.px", getattr(config.crops, name).px)
        )
        what = f"{stream.name} with estimator.{name}.conv_pool" if stream.conv_pool else stream.name
        build = partial(Stream, stream.name, conv_pool=stream.conv_pool)
        yield key, px, what, build, estimator.fit.progressive_resize_from


@torch.no_grad()
def _feature_map(net: nn.Module, image: Tensor) -> Tensor:
    return net.feature_map(image) if isinstance(net, Stream) else net(image)
