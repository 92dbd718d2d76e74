"""Networks that `baa.data.read.small_network` runs: untrained, and as a file of weights; the films that they learn from."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from baa.data.cache import Radiographs


def make_net(channels: Sequence[int], outputs: int = 1, cells: int = 1) -> nn.Sequential:
    """Make an untrained network: [B, 1, px, px] -> [B, outputs]. Its last map is averaged to `cells` a side."""
    layers: list[nn.Module] = []
    for wide, wider in pairwise(channels):
        layers += [nn.Conv2d(wide, wider, 3, stride=2, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(cells), nn.Flatten(), nn.Linear(channels[-1] * cells**2, outputs))


def save_weights(net: nn.Sequential, file: Path) -> None:
    """Write the weights of a network, batch norm folded in, half precision."""
    norms = [layer for layer in net if isinstance(layer, nn.BatchNorm2d)]
    convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    last = net[-1]
    assert isinstance(last, nn.Linear)
    layers: list[nn.Conv2d | nn.Linear] = [*map(fuse_conv_bn_eval, convolutions, norms), last]
    stored = {}
    for i, layer in enumerate(layers):
        assert layer.bias is not None
        stored[f"weight{i}"] = layer.weight.flatten(1).half().numpy()
        stored[f"bias{i}"] = layer.bias.half().numpy()
    np.savez_compressed(file, allow_pickle=False, **stored)


def films(radiographs: Radiographs) -> Iterator[np.ndarray]:
    """The radiographs, uint8 [H, W], without the black that pads them to squares."""
    for i, (frame, (width, height)) in enumerate(zip(radiographs.frames(), radiographs.sizes(), strict=True)):
        scale = radiographs.px / frame.side
        left, top = max(0, round(-frame.left * scale)), max(0, round(-frame.top * scale))
        right, bottom = round((width - frame.left) * scale), round((height - frame.top) * scale)
        yield radiographs.pixels(i)[top:bottom, left:right]
