"""Augmentation of a batch on its device, by kornia: the paper's resampling, rotation, contrast and brightness, and flips."""

import kornia.augmentation as K
from torch import nn

ERASED_AREA, ERASED_ASPECT = (0.02, 0.15), (0.5, 2.0)


def augmentation(
    *,
    degrees: float = 15.0,
    scale: float = 0.1,
    shift: float = 0.05,
    contrast: float = 0.2,
    brightness: float = 0.1,
    flip: float = 0.5,
    erase: float = 0.0,
) -> nn.Module:
    """A module [B, 1, H, W] -> [B, 1, H, W], both in [0, 1], that draws anew for every image.

    Args:
        degrees: rotation to either side.
        scale: resampling by a factor of up to 1 +- scale.
        shift: as a share of the side.
        contrast, brightness: a factor, an addition, of up to 1 +- this and +- this.
        flip: probability of a left-right flip.
        erase: probability of a black rectangle of 2 to 15 % of the area.
    """
    steps: list[K.AugmentationBase2D] = []
    if degrees or scale or shift:
        steps.append(K.RandomAffine(degrees=degrees, translate=(shift, shift), scale=(1 - scale, 1 + scale), p=1.0))
    if flip:
        steps.append(K.RandomHorizontalFlip(p=flip))
    if contrast:
        steps.append(K.RandomContrast(contrast=(1 - contrast, 1 + contrast), p=1.0))
    if brightness:
        steps.append(K.RandomBrightness(brightness=(1 - brightness, 1 + brightness), p=1.0))
    if erase:
        steps.append(K.RandomErasing(scale=ERASED_AREA, ratio=ERASED_ASPECT, value=0.0, p=erase))
    return K.AugmentationSequential(*steps, data_keys=["input"]) if steps else nn.Identity()
