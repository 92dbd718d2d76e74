"""A decoded radiograph, and where its square lies in the image."""

from typing import NamedTuple

import numpy as np

from baa.patient import Patient

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue, as Pillow has them."""


class Frame(NamedTuple):
    """The place of the square in the image, in its pixels: left and top edge, negative where it is padded, and side.

    Example:
        >>> Frame(left=0.0, top=-20.0, side=200.0).boxes_in_image(np.array([0.25, 0.5, 0.75, 1.0])).tolist()
        [50.0, 80.0, 150.0, 180.0]
    """

    left: float
    top: float
    side: float

    def boxes_in_image(self, boxes: np.ndarray) -> np.ndarray:
        """Convert boxes [..., 4] from shares of the square to pixels of the image."""
        return boxes * self.side + np.array([self.left, self.top, self.left, self.top])


class Gray(NamedTuple):
    """The gray levels of a file, and what its header declares.

    levels: [H, W] of the number type that needs least memory, bones bright if `declared`. declared: the file declares its
    polarity, and it has been applied. patient: from a DICOM header. notes: what is unusual about the file, in words.
    """

    levels: np.ndarray
    declared: bool = False
    patient: Patient = Patient()
    notes: tuple[str, ...] = ()


class Radiograph(NamedTuple):
    """A decoded radiograph.

    pixels: uint8 [S, S], bones bright, padded with black.
    width, height: of the image as a viewer shows it.
    frame: where the square lies in that image.
    inverted: the picture was taken for a negative and its levels have been inverted.
    patient: from a DICOM header.
    notes: what is unusual about the file, in words.
    """

    pixels: np.ndarray
    width: int
    height: int
    frame: Frame
    inverted: bool
    patient: Patient = Patient()
    notes: tuple[str, ...] = ()
