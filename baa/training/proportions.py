"""Training of the network that detects stretched hands and wide margins, on radiographs that are changed by known factors.

Run `python -m baa.training.proportions conf/pretrained.yaml data.root=FOLDER` to train the packaged one again.
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from baa.assembly.data import load_splits
from baa.config.load import load
from baa.data.cache import Radiographs
from baa.data.proportions import CELLS, CHANNELS, PX, SMALL, TALL, WEIGHTS, WIDE, thumbnail
from baa.training.small_network import films, make_net, save_weights

EPOCHS = 10
BATCH = 64
LEARNING_RATE = 1e-2

STRETCH, SIZES = 0.5, (-0.7, 0.15)
"""Largest logarithm of a stretch, and the range of that of a size, in training."""

DEGREES, SHIFT = 15.0, 0.06
"""Largest rotation, and largest shift as a share of the side."""

CUT = 0.15
"""Largest share of a picture that is blacked out from each side. So the film's own shape says less."""

MARGIN = 0.4
"""Share of the pictures whose surroundings are not black."""

GAMMA = 1.5
NOISE = 0.03


FINER = 2
"""Pictures are changed at this many times the network's side, so that it cannot tell a stretched one by its sharpness."""


def train_proportions(pictures: Tensor, generator: torch.Generator) -> nn.Sequential:
    """Train on pictures [N, 1, 192, 192] uint8."""
    net = make_net(CHANNELS, outputs=2, cells=CELLS)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE)
    steps = EPOCHS * -(-len(pictures) // BATCH)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for places in torch.randperm(len(pictures), generator=generator).split(BATCH):
            stretch = STRETCH * uniform(len(places), generator)
            size = SIZES[0] + (SIZES[1] - SIZES[0]) * torch.rand(len(places), generator=generator)
            picture = changed(pictures[places].float() / 255, stretch, size, generator)
            picture = vary(F.avg_pool2d(picture, FINER), generator)
            target = torch.stack([stretch, size], dim=1)
            optimizer.zero_grad()
            F.smooth_l1_loss(net(picture), target, beta=0.05).backward()
            optimizer.step()
            scheduler.step()
    return net.eval().requires_grad_(False)


def changed(pictures: Tensor, stretch: Tensor, size: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate and shift the hands of pictures [N, 1, px, px], change their size, stretch them, and change what surrounds them.

    Args:
        pictures: on black.
        stretch: [N], the logarithm of the factor of the width over that of the height.
        size: [N], the logarithm of the factor of the area's root.
        generator: of random numbers.
    """
    count = len(pictures)
    pictures = cut(pictures, generator)
    angle = math.radians(DEGREES) * uniform(count, generator)
    linear = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
    factors = torch.stack([(-stretch / 2 - size).exp(), (stretch / 2 - size).exp()], dim=1)
    shift = 2 * SHIFT * uniform(2 * count, generator).view(-1, 2, 1)
    places = F.affine_grid(torch.cat([linear * factors[:, None], shift], dim=2), list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, places, align_corners=False)
    outside = (places.abs() > 1).any(dim=3)[:, None]
    level = torch.rand(count, 1, 1, 1, generator=generator) * (torch.rand(count, 1, 1, 1, generator=generator) < MARGIN)
    return cut(torch.where(outside, level, moved), generator)


def cut(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Black out the borders of half of the pictures of a batch, along one side or both."""
    across = torch.linspace(0, 1, pictures.shape[-1])
    for axis in (2, 3):
        first, last = (CUT * torch.rand(len(pictures), 1, generator=generator) for _ in range(2))
        kept = (across >= first) & (across <= 1 - last) | (torch.rand(len(pictures), 1, generator=generator) < 0.5)
        pictures = pictures * (kept[:, None, :, None] if axis == 2 else kept[:, None, None, :]).float()
    return pictures


def vary(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the pictures, change the exposure, add noise."""
    pictures = torch.where(torch.rand(len(pictures), 1, 1, 1, generator=generator) < 0.5, pictures.flip(3), pictures)
    power = GAMMA ** uniform(len(pictures), generator)[:, None, None, None]
    noise = NOISE * torch.rand(len(pictures), 1, 1, 1, generator=generator)
    return (pictures.pow(power) + noise * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)


def uniform(count: int, generator: torch.Generator) -> Tensor:
    """Random numbers [count] between -1 and 1."""
    return 2 * torch.rand(count, generator=generator) - 1


def pictures_of(radiographs: Radiographs) -> Tensor:
    """Radiographs as thumbnails of a finer grid, uint8 [N, 1, 192, 192]."""
    fine = [(thumbnail(film, FINER * PX) * 255).round().astype(np.uint8) for film in films(radiographs)]
    return torch.from_numpy(np.stack(fine))[:, None]


def thumbnails(radiographs: Radiographs, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Tensor:
    """The thumbnails [N, 1, 96, 96] of radiographs, each changed first."""
    return torch.from_numpy(np.stack([thumbnail(change(film)) for film in films(radiographs)]))[:, None]


def widened(film: np.ndarray, factor: float) -> np.ndarray:
    """Resize the width of a film by a factor."""
    height, width = film.shape
    return np.asarray(Image.fromarray(film).resize((round(width * factor), height), Image.Resampling.BILINEAR))


def with_margin(film: np.ndarray, share: float) -> np.ndarray:
    """Put a dark margin around a film, a share of each side wide."""
    return np.pad(film, [(round(share * side),) * 2 for side in film.shape], constant_values=8)


def main(arguments: Sequence[str]) -> None:
    """Train on the training split of a data source; print the errors on the others, and how many hands are noted."""
    file, *settings = arguments
    config = load([Path(file)], settings)
    with TemporaryDirectory() as folder:
        splits = load_splits(config.data, Path(folder))
    net = train_proportions(pictures_of(splits["train"]), torch.Generator().manual_seed(config.seed))
    save_weights(net, WEIGHTS)
    for split in ("val", "test"):
        stretch, size = net(thumbnails(splits[split])).unbind(dim=1)
        print(f"{split}: {len(stretch)} radiographs, error of the stretch {describe(stretch)}, of the size {describe(size)}")
        print(f"  as they are: {noted(stretch > WIDE)} too wide, {noted(stretch < TALL)} too tall, {noted(size < SMALL)} small")
        for factor in (0.8, 1.15, 1.25, 1.33, 1.5):
            stretch = net(thumbnails(splits[split], partial(widened, factor=factor)))[:, 0]
            print(f"  {factor:.2f} times as wide: {noted((stretch > WIDE) | (stretch < TALL))} count as stretched")
        for share in (0.1, 0.15, 0.25, 0.3):
            size = net(thumbnails(splits[split], partial(with_margin, share=share)))[:, 1]
            print(f"  with a margin of {share:.0%}: {noted(size < SMALL)} count as small")


def describe(errors: Tensor) -> str:
    """Format mean and standard deviation."""
    return f"{errors.mean():+.3f} +- {errors.std():.3f}"


def noted(found: Tensor) -> str:
    """Format the share of entries that are true."""
    return f"{float(found.float().mean()):.2%}"


if __name__ == "__main__":
    main(sys.argv[1:])
