"""Training of the network that tells mirrored hands, on hands and their mirror images."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from baa.data.augment import Augmentation
from baa.nets.laterality import PX, Laterality
from baa.nets.view import Film

FILMS = 4000
"""At most."""

EPOCHS = 12
BATCH = 50
LEARNING_RATE = 3e-3


def train_laterality(films: Sequence[np.ndarray], device: torch.device) -> Laterality:
    """Most of the hands have to lie the same way; the few that do not are learnt from the wrong way round, and borne.

    Args:
        films: square radiographs [S, S] uint8.
        device: to train on.

    Returns:
        The network, on the CPU.
    """
    views = torch.cat([Film.plain(torch.from_numpy(film.copy())[None, None].float() / 255).view(PX) for film in films]).to(
        device
    )
    net, moved = Laterality().to(device), Augmentation(degrees=20.0, flip=0.0)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE)
    batches = -(-len(views) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * batches)
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for places in torch.randperm(len(views), device=device).split(BATCH):
                view = moved(views[places]).view(PX)
                mirrored = torch.rand(len(view), device=device) < 0.5
                logits = net(torch.where(mirrored[:, None, None, None], view.flip(3), view))
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(logits, mirrored.float()).backward()
                optimizer.step()
                schedule.step()
    return net.eval().requires_grad_(False).cpu()
