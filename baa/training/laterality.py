"""Training of the network that detects mirrored hands, on hands and their mirror images."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from baa.data.augment import Augmentation
from baa.nets.laterality import PX, Laterality
from baa.nets.view import View

MOST_RADIOGRAPHS = 4000
EPOCHS = 12
BATCH = 50
LEARNING_RATE = 3e-3


def train_laterality(radiographs: Sequence[np.ndarray], device: torch.device) -> Laterality:
    """Train on hands of which most lie the same way. The few that do not are label noise.

    Args:
        radiographs: square [S, S] uint8.
        device: to train on.

    Returns:
        The network, on the CPU.
    """
    rendered = [View.of(torch.from_numpy(pixels.copy())[None, None].float() / 255).render(PX) for pixels in radiographs]
    images = torch.cat(rendered).to(device)
    net, augment = Laterality().to(device), Augmentation(degrees=20.0, flip=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE)
    batches = -(-len(images) // BATCH)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * batches)
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for places in torch.randperm(len(images), device=device).split(BATCH):
                image = augment(images[places]).render(PX)
                mirrored = torch.rand(len(image), device=device) < 0.5
                logits = net(torch.where(mirrored[:, None, None, None], image.flip(3), image))
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(logits, mirrored.float()).backward()
                optimizer.step()
                scheduler.step()
    return net.eval().requires_grad_(False).cpu()
