"""Augmentation of a batch on its device: the paper's (scale, rotation, contrast, brightness), shifts, flips, black rectangles.

Nothing is resampled here. A `Film` says how its source is to be looked at, and each view of it interpolates once.
"""

from dataclasses import dataclass

import torch
from kornia.geometry.transform import get_affine_matrix2d
from torch import Tensor

from baa.nets.backbone import GreyImage
from baa.nets.view import Film, compose

ERASED_AREA, ERASED_ASPECT = (0.02, 0.15), (0.5, 2.0)


@dataclass(frozen=True)
class Augmentation:
    """Draws anew for every image: [B, 1, S, S] in [0, 1] -> `Film`.

    Args:
        degrees: rotation to either side.
        scale: resampling by a factor of up to 1 +- scale.
        shift: as a share of the side.
        contrast, brightness: a factor, an addition, of up to 1 +- this and +- this.
        flip: probability of a left-right flip.
        erase: probability of a black rectangle of 2 to 15 % of the area.
    """

    degrees: float = 15.0
    scale: float = 0.1
    shift: float = 0.05
    contrast: float = 0.2
    brightness: float = 0.1
    flip: float = 0.5
    erase: float = 0.0

    def __call__(self, source: GreyImage) -> Film:
        count = len(source)

        def draw(low: float, high: float, *shape: int) -> Tensor:
            return torch.empty(count, *shape, device=source.device).uniform_(low, high)

        moved = get_affine_matrix2d(
            translations=draw(-self.shift, self.shift, 2),
            center=source.new_full((count, 2), 0.5),
            scale=draw(1 - self.scale, 1 + self.scale, 1).expand(count, 2),
            angle=draw(-self.degrees, self.degrees),
        )
        mirrored = torch.tensor([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], device=source.device).expand(count, 2, 3)
        upright = torch.eye(2, 3, device=source.device).expand(count, 2, 3)
        turned = torch.where((draw(0, 1) < self.flip)[:, None, None], mirrored, upright)
        return Film(
            source=source,
            frame=compose(torch.linalg.inv(moved)[:, :2], turned),
            contrast=draw(1 - self.contrast, 1 + self.contrast),
            brightness=draw(-self.brightness, self.brightness),
            hidden=self._rectangles(draw(*ERASED_AREA), draw(*ERASED_ASPECT), draw(0, 1, 2), draw(0, 1) < self.erase)
            if self.erase
            else None,
        )

    @staticmethod
    def _rectangles(area: Tensor, aspect: Tensor, place: Tensor, shown: Tensor) -> Tensor:
        size = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=1)
        low = place * (1 - size)
        return torch.cat([low, low + size], dim=1).masked_fill(~shown[:, None], torch.nan)
