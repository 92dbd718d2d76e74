"""A network that detects mirrored radiographs by the position of the thumb."""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from baa.nets.backbone import GrayImage
from baa.nets.view import View

PX = 96
CHANNELS = (1, 12, 24, 48, 48)
GROUPS = 6
CELLS = PX // 2 ** len(CHANNELS)
"""Side of the last feature map in cells: each convolution and the average pooling halve it."""

SURE = 3.0
"""Logit of a probability of 0.95."""


class Laterality(nn.Module):
    """A small network whose logit changes its sign when the radiograph is flipped left to right.

    It is separate from the locator, because the locator is trained on flipped radiographs too. The untrained logit is 0.

    Shapes:
        source [B, 1, S, S] in [0, 1] -> logit [B]: mirrored, compared with the majority of the training radiographs
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(CHANNELS):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.GroupNorm(GROUPS, outputs), nn.ReLU()]
        last = nn.Linear(CHANNELS[-1] * CELLS**2, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), last)

    def forward(self, source: GrayImage) -> Float[Tensor, " batch"]:
        view = View.of(source).render(PX)
        as_given, mirrored = self.layers(torch.cat([view, view.flip(3)]))[:, 0].chunk(2)
        return as_given - mirrored
