"""Changes of a radiograph that occur in practice: position, exposure, sharpness, compression, markers, collimation.

The kinds are those of Santomartino et al., "Evaluating the Robustness of a Deep Learning Bone Age Algorithm to Clinical Image
Variation Using Computational Stress Testing", Radiology: Artificial Intelligence 2024, https://doi.org/10.1148/ryai.230240,
and more. A changed radiograph is read again as a file would be: margins are cut, levels stretched, negatives inverted.
"""

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, UInt8
from kornia.enhance import adjust_brightness, adjust_contrast_with_mean_subtraction, adjust_gamma, equalize_clahe, invert
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import hflip, resize, rotate, scale, translate, vflip
from PIL import Image
from torch import Tensor

from baa.data.read.radiograph import Gray
from baa.data.read.square import make_radiograph

Picture = Float[Tensor, "1 1 rows columns"]

MARKER = 0.1
"""Side of the marker, a share of the image's side."""

COLLIMATED = 0.08
"""Width of the frame that collimation hides, a share of the image's side."""


def _rotated(image: Picture, degrees: float) -> Picture:
    return rotate(image, torch.tensor([degrees]))


def _shifted(image: Picture, right: float, down: float) -> Picture:
    return translate(image, torch.tensor([[right, down]]) * image.shape[-1])


def _scaled(image: Picture, factor: float) -> Picture:
    return scale(image, torch.tensor([[factor, factor]]))


def _squeezed(image: Picture, width: float) -> Tensor:
    return resize(image, (image.shape[-2], round(image.shape[-1] * width)), antialias=True)


def _uneven(image: Picture, least: float) -> Picture:
    return image * torch.linspace(1.0, least, image.shape[-1])


def _blurred(image: Picture, sigma: float) -> Picture:
    pixels = sigma * image.shape[-1]
    side = 2 * round(3 * pixels) + 1
    return gaussian_blur2d(image, (side, side), (pixels, pixels))


def _noisy(image: Picture, deviation: float) -> Picture:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return image + deviation * noise


def _compressed(image: Picture, quality: int) -> Picture:
    """Compress by the codec itself: kornia's differentiable one approximates it, in fifty times the time."""
    stream = io.BytesIO()
    Image.fromarray(_levels(image)).save(stream, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(stream)))[None, None].float() / 255


def _coarse(image: Picture, factor: float) -> Picture:
    small = (round(image.shape[-2] * factor), round(image.shape[-1] * factor))
    return resize(resize(image, small, antialias=True), (image.shape[-2], image.shape[-1]))


def _marked(image: Picture) -> Picture:
    """Put a lead letter L into the upper left corner."""
    marked, side = image.clone(), max(5, round(MARKER * image.shape[-1]))
    corner = marked[..., side : 2 * side, side : 2 * side]
    corner[..., : side // 5 + 1] = 1.0
    corner[..., -(side // 5 + 1) :, : side * 3 // 4] = 1.0
    return marked


def _collimated(image: Picture, level: float) -> Picture:
    width = max(1, round(COLLIMATED * image.shape[-1]))
    framed = torch.full_like(image, level)
    framed[..., width:-width, width:-width] = image[..., width:-width, width:-width]
    return framed


TRANSFORMATIONS: dict[str, Callable[[Picture], Tensor]] = {
    "rotated by -20 degrees": partial(_rotated, degrees=-20.0),
    "rotated by -10 degrees": partial(_rotated, degrees=-10.0),
    "rotated by 10 degrees": partial(_rotated, degrees=10.0),
    "rotated by 20 degrees": partial(_rotated, degrees=20.0),
    "rotated by 90 degrees": partial(_rotated, degrees=90.0),
    "rotated by 180 degrees": partial(_rotated, degrees=180.0),
    "rotated by 270 degrees": partial(_rotated, degrees=270.0),
    "mirrored left to right": hflip,
    "mirrored top to bottom": vflip,
    "shifted right by 10 %": partial(_shifted, right=0.1, down=0.0),
    "shifted down by 10 %": partial(_shifted, right=0.0, down=0.1),
    "scaled to 80 %": partial(_scaled, factor=0.8),
    "scaled to 120 %": partial(_scaled, factor=1.2),
    "squeezed to 85 % of its width": partial(_squeezed, width=0.85),
    "brightness -0.2": partial(adjust_brightness, factor=-0.2),
    "brightness +0.2": partial(adjust_brightness, factor=0.2),
    "contrast x 0.5": partial(adjust_contrast_with_mean_subtraction, factor=0.5),
    "contrast x 1.5": partial(adjust_contrast_with_mean_subtraction, factor=1.5),
    "gamma 0.5": partial(adjust_gamma, gamma=0.5),
    "gamma 2": partial(adjust_gamma, gamma=2.0),
    "inverted": invert,
    "exposed unevenly": partial(_uneven, least=0.5),
    "local contrast equalized (CLAHE)": partial(equalize_clahe, clip_limit=2.0),
    "blurred, 0.3 % of the side": partial(_blurred, sigma=0.003),
    "blurred, 0.8 % of the side": partial(_blurred, sigma=0.008),
    "noise, deviation 0.05": partial(_noisy, deviation=0.05),
    "noise, deviation 0.1": partial(_noisy, deviation=0.1),
    "JPEG of quality 30": partial(_compressed, quality=30),
    "JPEG of quality 10": partial(_compressed, quality=10),
    "half the resolution": partial(_coarse, factor=0.5),
    "a quarter of the resolution": partial(_coarse, factor=0.25),
    "with a marker": _marked,
    "collimated, black frame": partial(_collimated, level=0.0),
    "collimated, gray frame": partial(_collimated, level=0.5),
}
"""By name. Each takes an image in [0, 1] with bones bright; levels outside are cut off afterwards."""


def transformed(film: UInt8[np.ndarray, "side side"], name: str) -> UInt8[np.ndarray, "side side"]:
    """Change a square radiograph and read it again.

    Args:
        film: as it is read from a file.
        name: of the transformation.
    """
    changed = TRANSFORMATIONS[name](torch.from_numpy(film.copy())[None, None].float() / 255)
    return make_radiograph(Gray(_levels(changed)), len(film)).pixels


def _levels(image: Tensor) -> UInt8[np.ndarray, "rows columns"]:
    return (image[0, 0].clamp(0, 1) * 255).round().byte().numpy()
