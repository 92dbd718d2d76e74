"""Training of the network that detects negatives, on radiographs and their inverted copies.

Run `python -m baa.training.polarity --config conf/pretrained.yaml data.root=FOLDER` to train the packaged one again.
"""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from baa.assembly.data import load_splits
from baa.config.load import load
from baa.data.cache import Radiographs
from baa.data.read.polarity import CHANNELS, PX, SURE, WEIGHTS, thumbnail

EPOCHS = 24
BATCH = 64
LEARNING_RATE = 1e-2
WIDEST_MARGIN = 0.7
GAMMA = 2.0


def make_net() -> nn.Sequential:
    """Make the untrained network: [B, 1, 64, 64] -> [B, 1]."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(CHANNELS):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1], 1))


def train_polarity(pictures: Tensor, generator: torch.Generator) -> nn.Sequential:
    """Train on thumbnails [N, 1, 64, 64] of positives, on black, white and gray margins."""
    net = make_net()
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE)
    steps = EPOCHS * -(-len(pictures) // BATCH)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for places in torch.randperm(len(pictures), generator=generator).split(BATCH):
            picture = vary(pictures[places], generator)
            negative = torch.rand(len(picture), generator=generator) < 0.5
            picture = add_margin(torch.where(negative[:, None, None, None], 1 - picture, picture), generator)
            as_given, inverted = net(torch.cat([picture, 1 - picture]))[:, 0].chunk(2)
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(as_given - inverted, negative.float()).backward()
            optimizer.step()
            scheduler.step()
    return net.eval().requires_grad_(False)


def vary(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate and mirror a batch, and change the exposure of each picture."""
    quarters, mirrored = torch.randint(4, (), generator=generator), torch.rand((), generator=generator) < 0.5
    pictures = torch.rot90(pictures, int(quarters), (2, 3))
    pictures = pictures.flip(3) if mirrored else pictures
    power = GAMMA ** (2 * torch.rand(len(pictures), 1, 1, 1, generator=generator) - 1)
    noise = 0.05 * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    return (pictures.pow(power) + noise * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)


def add_margin(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Shrink half of the pictures of a batch, and lay them on a margin of one level, mostly black or white."""
    widest = int(WIDEST_MARGIN * PX)
    left, right, top, bottom = (int(torch.randint(widest, (), generator=generator)) for _ in range(4))
    small = F.interpolate(pictures, (PX - (top + bottom) // 2, PX - (left + right) // 2), mode="area")
    level = torch.randint(3, (), generator=generator) / 2
    canvas = torch.full_like(pictures, float(level))
    canvas[:, :, top // 2 : top // 2 + small.shape[2], left // 2 : left // 2 + small.shape[3]] = small
    chosen = torch.rand(len(pictures), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen, canvas, pictures)


def save_weights(net: nn.Sequential, file: Path) -> None:
    """Write the weights as `baa.data.read.polarity` reads them: batch norm folded in, half precision."""
    norms = [layer for layer in net if isinstance(layer, nn.BatchNorm2d)]
    convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
    last = net[-1]
    assert isinstance(last, nn.Linear)
    layers: list[nn.Conv2d | nn.Linear] = [*map(fuse_conv_bn_eval, convolutions, norms), last]
    stored = {}
    for i, layer in enumerate(layers):
        assert layer.bias is not None
        stored[f"weight{i}"] = layer.weight.flatten(1).squeeze(0).half().numpy()
        stored[f"bias{i}"] = layer.bias.half().numpy()
    np.savez_compressed(file, allow_pickle=False, **stored)


def thumbnails(radiographs: Radiographs) -> Tensor:
    """The thumbnails [N, 1, 64, 64] of radiographs, without the black that pads them to squares."""
    pictures = []
    for i, (frame, (width, height)) in enumerate(zip(radiographs.frames(), radiographs.sizes(), strict=True)):
        scale = radiographs.px / frame.side
        left, top = max(0, round(-frame.left * scale)), max(0, round(-frame.top * scale))
        right, bottom = round((width - frame.left) * scale), round((height - frame.top) * scale)
        pictures.append(torch.from_numpy(thumbnail(radiographs.pixels(i)[top:bottom, left:right])))
    return torch.stack(pictures)[:, None]


def main(arguments: Sequence[str]) -> None:
    """Train on the training split of a data source; print how many of the test split are recognized."""
    config = load([], arguments)
    with TemporaryDirectory() as folder:
        splits = load_splits(config.data, Path(folder))
    net = train_polarity(thumbnails(splits["train"]), torch.Generator().manual_seed(config.seed))
    save_weights(net, WEIGHTS)
    for split in ("val", "test"):
        pictures = thumbnails(splits[split])
        logits = (net(1 - pictures) - net(pictures))[:, 0]
        detected, turned = float((logits > SURE).float().mean()), float((logits < -SURE).float().mean())
        print(
            f"{split}: {turned:.2%} of {len(logits)} radiographs are taken for negatives, {detected:.2%} of their negatives are"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
