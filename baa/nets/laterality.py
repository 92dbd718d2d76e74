"""Whether a hand lies the other way round than most: its thumb tells."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from baa.nets.backbone import GreyImage
from baa.nets.view import Film

PX = 96
CHANNELS = (1, 12, 24, 48, 48)
GROUPS = 6
CELLS = PX // 2 ** len(CHANNELS)
"""A side that are told apart: every convolution halves it, and averaging once more."""

SURE = 3.0
"""A logit: 19 of 20."""


class Laterality(nn.Module):
    """A small network that says the opposite of a film's mirror image; of its own because the locator is trained on both sides.

    Untrained it is sure of nothing.

    Shapes:
        source [B, 1, S, S] in [0, 1] -> logit [B] of lying mirrored to most of the films that it was trained on
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(CHANNELS):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.GroupNorm(GROUPS, outputs), nn.ReLU()]
        last = nn.Linear(CHANNELS[-1] * CELLS**2, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), last)

    def forward(self, source: GreyImage) -> Float[Tensor, " batch"]:
        view = Film.plain(source).view(PX)
        as_it_is, mirrored = self.layers(torch.cat([view, view.flip(3)]))[:, 0].chunk(2)
        return as_it_is - mirrored
