"""How a film is laid before it is read: turned, mirrored; and the way back."""

from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

QUARTERS = 4

Pictures = Shaped[Tensor, "batch layers px px"]
BoxesByPicture = Shaped[Tensor, "batch boxes 4"]


class Pose(NamedTuple):
    """What is done to pictures before they are read: turned anticlockwise by quarters of a circle, then mirrored.

    quarters [B] int64; mirrored [B] bool.
    """

    quarters: Tensor
    mirrored: Tensor

    @classmethod
    def as_given(cls, count: int, device: torch.device | None = None) -> "Pose":
        """Nothing is done."""
        none = torch.zeros(count, dtype=torch.long, device=device)
        return cls(none, none.bool())

    def lay(self, pictures: Pictures) -> Pictures:
        """The pictures as they are read."""
        for done in range(1, QUARTERS):
            pictures = torch.where((self.quarters >= done)[:, None, None, None], turn(pictures, 1), pictures)
        return torch.where(self.mirrored[:, None, None, None], mirror(pictures), pictures)

    def lay_back(self, pictures: Pictures) -> Pictures:
        """Pictures as they are read, such as heat maps, as they were given."""
        pictures = torch.where(self.mirrored[:, None, None, None], mirror(pictures), pictures)
        for done in range(1, QUARTERS):
            pictures = torch.where((self.quarters >= done)[:, None, None, None], turn(pictures, -1), pictures)
        return pictures

    def boxes_back(self, boxes: BoxesByPicture) -> BoxesByPicture:
        """Boxes of pictures as they are read in the ones that were given, as shares of the square."""
        x0, y0, x1, y1 = boxes.unbind(dim=2)
        boxes = torch.where(self.mirrored[:, None, None], torch.stack([1 - x1, y0, 1 - x0, y1], dim=2), boxes)
        for done in range(1, QUARTERS):
            x0, y0, x1, y1 = boxes.unbind(dim=2)
            turned_back = torch.stack([1 - y1, x0, 1 - y0, x1], dim=2)
            boxes = torch.where((self.quarters >= done)[:, None, None], turned_back, boxes)
        return boxes


def turn(pictures: Pictures, quarters: int) -> Pictures:
    """Turned anticlockwise by quarters of a circle."""
    return torch.rot90(pictures, quarters, dims=(2, 3))


def mirror(pictures: Pictures) -> Pictures:
    """Left and right exchanged."""
    return pictures.flip(3)
