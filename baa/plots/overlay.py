"""The picture of a prediction: the radiograph with its boxes, the same under its heat maps, and the result as text."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from baa.plots.figures import region_color

PANEL_PX = 512
TEXT_PX = 18
HEAT_OPACITY = 0.45
"""Opacity of the heat map at its maximum."""


class Drawing(NamedTuple):
    """The content of a picture.

    Args:
        film: square radiograph [S, S] uint8, as the network received it.
        heat: heat maps [R, h, w], not negative; None without a locator.
        boxes: [R, 4], shares of the square image; None without a locator.
        lines: lines of text.
        regions: names of the R regions; empty without a locator.
    """

    film: np.ndarray
    heat: np.ndarray | None
    boxes: np.ndarray | None
    lines: Sequence[str]
    regions: Sequence[str]


def overlay(drawing: Drawing) -> Image.Image:
    """Draw a prediction."""
    film, heat, boxes, lines, regions = drawing
    gray = Image.fromarray(film).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC).convert("RGB")
    panels = [gray] if heat is None else [gray, _heated(gray, heat)]
    text_height = (len(lines) + 1) * TEXT_PX
    picture = Image.new("RGB", (2 * PANEL_PX, text_height + PANEL_PX))
    for place, panel in enumerate(panels):
        if boxes is not None:
            _draw_boxes(panel, boxes, regions)
        picture.paste(panel, (place * PANEL_PX, text_height))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT_PX - 4)
    for row, line in enumerate(lines):
        draw.text((TEXT_PX // 2, row * TEXT_PX + TEXT_PX // 2), line, fill="white", font=font)
    return picture


def heat_layer(heat: np.ndarray, px: int) -> Image.Image:
    """A transparent layer for a film: the maximum of all heat maps [R, h, w], each scaled to its own maximum.

    Returns:
        RGBA; opacity grows with the heat.
    """
    maps = [np.asarray(Image.fromarray(one.astype(np.float32)).resize((px, px), Image.Resampling.BICUBIC)) for one in heat]
    hottest = np.max([one.clip(0) / max(float(one.max()), 1e-9) for one in maps], axis=0)
    colors = matplotlib.colormaps["jet"](hottest)
    colors[..., 3] = hottest
    return Image.fromarray((colors * 255).astype(np.uint8), "RGBA")


def _heated(gray: Image.Image, heat: np.ndarray) -> Image.Image:
    layer = heat_layer(heat, PANEL_PX)
    layer.putalpha(layer.getchannel("A").point(lambda opacity: opacity * HEAT_OPACITY))
    return Image.alpha_composite(gray.convert("RGBA"), layer).convert("RGB")


def _draw_boxes(panel: Image.Image, boxes: np.ndarray, regions: Sequence[str]) -> None:
    draw = ImageDraw.Draw(panel)
    for index, (box, name) in enumerate(zip(boxes, regions, strict=True)):
        if np.isfinite(box).all():
            color = ImageColor.getrgb(region_color(name, index))
            draw.rectangle([float(edge) * PANEL_PX for edge in box], outline=color, width=2)
