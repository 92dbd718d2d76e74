"""Training of the network that detects negatives, on radiographs and their inverted copies.

Run `python -m baa.training.polarity conf/pretrained.yaml data.root=FOLDER` to train the packaged one again.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baa.assembly.data import load_splits
from baa.config.load import load
from baa.data.cache import Radiographs
from baa.data.read.polarity import CHANNELS, PX, SURE, WEIGHTS, thumbnail
from baa.training.small_network import films, make_net, save_weights

EPOCHS = 24
BATCH = 64
LEARNING_RATE = 1e-2
WIDEST_MARGIN = 0.7
GAMMA = 2.0


def train_polarity(pictures: Tensor, generator: torch.Generator) -> nn.Sequential:
    """Train on thumbnails [N, 1, 64, 64] of positives, on black, white and gray margins."""
    net = make_net(CHANNELS)
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


def thumbnails(radiographs: Radiographs) -> Tensor:
    """The thumbnails [N, 1, 64, 64] of radiographs, without the black that pads them to squares."""
    return torch.stack([torch.from_numpy(thumbnail(film)) for film in films(radiographs)])[:, None]


def main(arguments: Sequence[str]) -> None:
    """Train on the training split of a data source; print how many of the test split are recognized."""
    file, *settings = arguments
    config = load([Path(file)], settings)
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
