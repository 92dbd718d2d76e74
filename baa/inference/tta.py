"""How far apart the ages are that a model reads from one film, when that is mirrored or turned a little."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from baa.data.batch import Batch
from baa.modules.base import AgeModule
from baa.modules.joint import JointModule
from baa.nets.cropper import RegionCropper
from baa.nets.heads import possible
from baa.nets.view import Film, Frame, compose

DEGREES = 8.0
"""To either side: about half of what training turns by at most."""


@torch.no_grad()
def disagreement(module: AgeModule, batch: Batch, cropper: RegionCropper | None) -> Float[Tensor, " batch"]:
    """The highest age less the lowest one, in months, of the film as it is read, mirrored, and turned to either side.

    Args:
        module: in eval mode.
        batch: films as they are read, and their regions, which move with the film and are not looked for again.
        cropper: that cut the regions; None for a network of the whole hand.
    """
    reader = module.estimator if isinstance(module, JointModule) else module
    ages = []
    for frame in _frames(batch.film):
        film = batch.film._replace(frame=compose(batch.film.frame, frame))
        regions = cropper.recall(film, batch.regions.boxes) if cropper is not None and batch.regions is not None else None
        ages.append(possible(reader.predict(batch._replace(film=film, regions=regions)).months))
    readings = torch.stack(ages)
    return readings.amax(dim=0) - readings.amin(dim=0)


def _frames(film: Film) -> list[Frame]:
    """As it is, mirrored, turned to either side about its middle."""
    frames = [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]
    for degrees in (-DEGREES, DEGREES):
        c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        frames.append([[c, -s, (1 - c + s) / 2], [s, c, (1 - c - s) / 2]])
    return [film.frame.new_tensor(frame).expand_as(film.frame) for frame in frames]
