"""Sides of views and crops, tried with their networks before any data is read."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from baa.assembly.modules import input_side, locator_arguments
from baa.checkpoints.trained_model import cropper_arguments
from baa.config.load import to_plain
from baa.config.networks import SCALE
from baa.config.schema import REGIONS, Config, FitConfig, StreamConfig
from baa.errors import InputError
from baa.nets.estimator import Stream
from baa.nets.locator import Locator
from baa.nets.two_stage import WHOLE, scaled_side

USUAL_SIDES = (96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 448, 512)
"""Pixels, tried for a network that does not take its side, to name some that it does."""

NAMED_SIDES = 3


class _Input(NamedTuple):
    """An input of a network: its setting and side, and the network that reads it.

    name: of the network, in words. fits: the fits that train it, by stage. build: for a side. attempt: a forward and a
    backward pass; raises anything.
    """

    key: str
    px: int
    name: str
    fits: dict[str, FitConfig]
    build: Callable[[int], nn.Module]
    attempt: Callable[[nn.Module, int], None]


def refuse_small_inputs(config: Config) -> None:
    """Refuse views and crops of a side that the networks that are to be trained on them do not take.

    Each network takes a step at each side that it will see, on `meta`, where nothing is allocated or computed.

    Raises:
        InputError: a network does not take the side of its input, or one of those that progressive resizing makes of it. The
            message names sides that it does take.
    """
    for tried in _inputs(config):
        for stage, fit in tried.fits.items():
            sides = sorted({tried.px, *_scaled_sides(tried.px, fit)})
            refused = [side for side in sides if not _takes(tried, tried.px, side)]
            if not refused:
                continue
            side = tried.px if tried.px in refused else refused[0]
            when = ""
            if side != tried.px:
                share = f"progressive_resize_from={fit.progressive_resize_from}"
                when = f", {side} in {'the first' if side == sides[0] else 'some'} epochs ({share})"
                remedy = f"give {stage}.fit.progressive_resize_from=1, or another side"
            else:
                near = sorted({*USUAL_SIDES, tried.px // 32 * 32}, key=lambda other: abs(other - tried.px))
                good = (str(other) for other in near if other != tried.px and _takes(tried, other, other))
                named = [text for text, _ in zip(good, range(NAMED_SIDES), strict=False)]
                remedy = f"give another side, such as {', '.join(named)}" if named else "choose another network"
            raise InputError(f"{tried.key}: {tried.px} pixels{when}, which {tried.name} does not take; {remedy}")


def _scaled_sides(px: int, fit: FitConfig) -> Iterator[int]:
    first, last = fit.progressive_resize_from, fit.epochs - 1
    for epoch in range(last + 1 if first < 1 else 0):
        yield scaled_side(px, first + (1 - first) * epoch / last if last else 1.0)


def _takes(tried: _Input, px: int, side: int) -> bool:
    """Whether a network for inputs of side `px` trains on images of `side`."""
    for device in ("meta", "cpu"):
        try:
            with torch.random.fork_rng(devices=()), torch.device(device), torch.enable_grad():
                tried.attempt(tried.build(px).train(), side)
        except InputError:
            raise
        except Exception as error:  # networks refuse a side by any error
            if isinstance(error, NotImplementedError) or "meta" in str(error):
                continue  # what `meta` lacks says nothing about the network
            return False
        return True
    return False


def _inputs(config: Config) -> Iterator[_Input]:
    locator, estimator = config.locator, config.estimator
    if "locator" in config.stages:
        arguments = locator_arguments(config, **SCALE)
        yield _Input(
            "locator.px",
            locator.px,
            locator.backbone.name,
            {"locator": locator.fit},
            lambda px: Locator(**arguments | {"px": px}),
            partial(_try_locator, layers=_read_layers(config)),
        )
    fits = {"estimator": estimator.fit} | ({"joint": config.joint.fit} if "joint" in config.stages else {})
    for name in estimator.streams if "estimator" in config.stages else ():
        stream = getattr(estimator, name)
        yield _Input(
            "estimator.whole_px" if name == WHOLE else f"crops.{name}.px",
            input_side(config, name),
            f"{stream.name} with estimator.{name}.conv_pool" if stream.conv_pool else stream.name,
            fits,
            partial(_stream, stream),
            _try_stream,
        )


def _stream(settings: StreamConfig, px: int) -> Stream:
    return Stream(settings.name, conv_pool=settings.conv_pool, px=px)


def _read_layers(config: Config) -> tuple[str, ...]:
    """The layers of the locator that heat maps are read from."""
    attribution = cropper_arguments(to_plain(config)["crops"])["attribution"]
    crops_follow = {"estimator", "joint"} & set(config.stages) and set(config.estimator.streams) & set(REGIONS)
    return tuple(attribution.layers) if crops_follow and attribution.method == "gradient_x_activation" else ()


def _try_locator(net: nn.Module, side: int, layers: tuple[str, ...]) -> None:
    """Train a locator on a batch, and check that each layer that is read returns a feature map. Its head takes any side."""
    assert isinstance(net, Locator)
    image = torch.empty(2, 1, side, side)
    shapes: dict[str, torch.Size] = {}

    def keep(name: str, *call: Any) -> None:
        shapes[name] = call[-1].shape

    hooks = [net.layer(name).register_forward_hook(partial(keep, name)) for name in layers]
    features = [net.features(image)]
    for hook in hooks:
        hook.remove()
    for name in layers:
        shape = shapes.get(name, ())
        if len(shape) != 4 or shape[2] != shape[3]:
            raise InputError(
                f"crops.cam_layers: layer {name!r} of {net.backbone.name} returns {list(shape[1:])}, not a feature map "
                "(channels, rows, columns); name another layer, or give crops.cam_method=grad_cam"
            )
    if net.auxiliary is not None:
        features += net.backbone.with_middle(image, net.auxiliary_stride)
    _learn(features)


def _try_stream(net: nn.Module, side: int) -> None:
    assert isinstance(net, Stream)
    _learn([net.feature_map(torch.empty(2, 1, side, side))])


def _learn(features: Sequence[Tensor]) -> None:
    if any(one.ndim != 4 or min(one.shape[2:]) == 0 for one in features):
        raise ValueError("no feature map is left of the image")
    torch.stack([one.mean() for one in features]).sum().backward()
