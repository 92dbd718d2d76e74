"""Render a skeleton as a radiograph: cortical and cancellous bone, soft tissue, noise, side marker, collimation."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from baa.data.sources.phantom.skeleton import Piece

PALM_MM = [(-29, 0), (-36, 60), (-22, 78), (0, 84), (18, 78), (34, 40), (38, 14), (28, -16), (-26, -18)]
FOREARM_MM = [(-26, -12), (27, -12), (25, -50), (29, -130), (-31, -130), (-27, -50)]


def expose(
    pieces: list[Piece], pose: np.ndarray, scale: float, px: int, film: np.random.Generator, grain: np.random.Generator
) -> np.ndarray:
    """Render the radiograph of a hand, uint8 [px, px].

    Args:
        pieces: the bones, in millimeters.
        pose: affine [2, 3] from millimeters to shares of the square.
        scale: size of the hand as a share of an adult hand.
        px: side of the radiograph in pixels.
        film: random generator of exposure, side marker and collimation.
        grain: random generator of the noise.
    """
    image = 0.34 * _soft_tissue(pieces, pose, scale, px)
    clear = np.ones((px, px), np.float32)
    for piece in pieces:
        _absorb(clear, piece, pose * px)
    image += film.uniform(0.5, 0.62) * (1 - clear) * (0.55 + 0.45 * clear)
    image += np.linspace(0, film.uniform(-0.06, 0.06), px, dtype=np.float32)  # anode heel effect
    image = image * film.uniform(0.75, 1.15) + film.uniform(0.03, 0.12)
    image += grain.standard_normal((px, px), dtype=np.float32) * film.uniform(0.008, 0.022)
    levels = Image.fromarray((image * 255).clip(0, 255).astype(np.uint8))
    return np.asarray(_collimated(_marked(levels, film, px), film, px))


def _soft_tissue(pieces: list[Piece], pose: np.ndarray, scale: float, px: int) -> np.ndarray:
    """Render skin and muscle of fingers, palm and forearm, [px, px] in [0, 1]."""
    small = px // 2
    pose = pose * small
    zoom = float(np.hypot(*pose[0, :2]))
    canvas = Image.new("L", (small, small))
    draw = ImageDraw.Draw(canvas)

    def place(x: float, y: float) -> tuple[float, float]:
        u, v = pose[:, :2] @ (x, y) + pose[:, 2]
        return float(u), float(v)

    for piece in pieces:
        if piece.region == "hand":
            r = (3.6 * scale + 1.15 * max(piece.near, piece.far)) * zoom
            for point in (piece.start, piece.end):
                u, v = place(*point)
                draw.ellipse((u - r, v - r, u + r, v + r), fill=190)
            draw.line([place(*piece.start), place(*piece.end)], fill=190, width=max(1, round(2 * r)))
    draw.polygon([place(x * scale, y * scale) for x, y in PALM_MM], fill=215)
    draw.polygon([place(x * scale, y * scale if y > -100 else y) for x, y in FOREARM_MM], fill=215)
    blur = ImageFilter.GaussianBlur(max(1.0, 1.6 * zoom * scale))
    return np.asarray(canvas.filter(blur).resize((px, px), Image.Resampling.BILINEAR), np.float32) / 255


def _absorb(clear: np.ndarray, piece: Piece, pose: np.ndarray) -> None:
    """Multiply `clear` [px, px] by the transmission of `piece`, in place and inside the piece's window only."""
    px = len(clear)
    zoom = float(np.hypot(*pose[0, :2]))
    a, b = (pose[:, :2] @ point + pose[:, 2] for point in (piece.start, piece.end))
    reach = max(piece.middle, piece.near, piece.far) * zoom + 2
    x0, y0 = np.floor(np.minimum(a, b) - reach).astype(int).clip(0, px)
    x1, y1 = np.ceil(np.maximum(a, b) + reach).astype(int).clip(0, px)
    if x0 >= x1 or y0 >= y1:
        return
    length = max(float(np.hypot(*(b - a))), 1e-3)
    axis = (b - a) / length
    x = np.arange(x0, x1, dtype=np.float32)[None] + 0.5 - a[0]
    y = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - a[1]
    along = x * np.float32(axis[0]) + y * np.float32(axis[1])
    across = np.abs(x * np.float32(axis[1]) - y * np.float32(axis[0]))
    place = (along / np.float32(length)).clip(0, 1)
    flare = (2 * place - 1) ** 2
    flare *= flare
    ends = np.where(place < 0.5, np.float32((piece.near - piece.middle) * zoom), np.float32((piece.far - piece.middle) * zoom))
    width = np.float32(piece.middle * zoom) + flare * ends
    beyond = np.maximum(np.maximum(-along, along - np.float32(length)), 0) * np.float32(piece.blunt)
    depth = width - np.sqrt(across * across + beyond * beyond)
    inside = depth.clip(0, 1)
    rim = np.exp(-np.maximum(depth, 0) / np.float32(max(piece.cortex * zoom, 0.5)))
    clear[y0:y1, x0:x1] *= 1 - inside * (np.float32(0.42) + np.float32(0.38) * rim)


def _marked(film: Image.Image, rng: np.random.Generator, px: int) -> Image.Image:
    """Add the lead side marker, always L."""
    size = px * rng.uniform(0.05, 0.08)
    corner = rng.choice([0.06, 0.86]) * px, rng.uniform(0.05, 0.3) * px
    ImageDraw.Draw(film).text(corner, "L", fill=250, font=ImageFont.load_default(size))
    return film


def _collimated(film: Image.Image, rng: np.random.Generator, px: int) -> Image.Image:
    """Cover everything outside a slightly rotated rectangle in black or, less often, gray, as a collimator does."""
    mask = Image.new("L", film.size)
    turn = np.deg2rad(rng.normal(0, 2))
    half_x, half_y = rng.uniform(0.44, 0.56) * px, rng.uniform(0.47, 0.56) * px
    corners = [(x * half_x, y * half_y) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    middle, cos, sin = px / 2, np.cos(turn), np.sin(turn)
    ImageDraw.Draw(mask).polygon([(middle + x * cos - y * sin, middle + x * sin + y * cos) for x, y in corners], fill=255)
    outside = Image.new("L", film.size, int(rng.choice([0, 4, 60], p=[0.6, 0.3, 0.1])))
    return Image.composite(film, outside, mask)
