"""The picture of a prediction: the radiograph with its boxes, the same under its heat maps, and the result as text."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from baa.plots.figures import region_color

PANEL_PX = 512
TEXT_PX = 18
DASH_PX = 8
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
        prior_boxes: [R, 4], where a spatial prior alone puts the boxes, dashed; None without a prior.
    """

    film: np.ndarray
    heat: np.ndarray | None
    boxes: np.ndarray | None
    lines: Sequence[str]
    regions: Sequence[str]
    prior_boxes: np.ndarray | None = None


def overlay(drawing: Drawing) -> Image.Image:
    """Draw a prediction."""
    film, heat, boxes, lines, regions, prior_boxes = drawing
    gray = Image.fromarray(film).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC).convert("RGB")
    panels = [gray] if heat is None else [gray, _heated(gray, heat)]
    text_height = (len(lines) + 1) * TEXT_PX
    picture = Image.new("RGB", (2 * PANEL_PX, text_height + PANEL_PX))
    for place, panel in enumerate(panels):
        if boxes is not None:
            _draw_boxes(panel, boxes, regions)
        if prior_boxes is not None:
            _draw_boxes(panel, prior_boxes, regions, dashed=True)
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


def _draw_boxes(panel: Image.Image, boxes: np.ndarray, regions: Sequence[str], *, dashed: bool = False) -> None:
    draw = ImageDraw.Draw(panel)
    for index, (box, name) in enumerate(zip(boxes, regions, strict=True)):
        if not np.isfinite(box).all():
            continue
        color = ImageColor.getrgb(region_color(name, index))
        x0, y0, x1, y1 = (float(edge) * PANEL_PX for edge in box)
        if not dashed:
            draw.rectangle([x0, y0, x1, y1], outline=color, width=2)
            continue
        for x in np.arange(x0, x1, 2 * DASH_PX):
            for y in (y0, y1):
                draw.line([x, y, min(x + DASH_PX, x1), y], fill=color, width=2)
        for y in np.arange(y0, y1, 2 * DASH_PX):
            for x in (x0, x1):
                draw.line([x, y, x, min(y + DASH_PX, y1)], fill=color, width=2)


def prior_note(shares: Mapping[str, float]) -> str:
    """Say which share of each box's place a spatial prior decided, as the line of a caption; empty without a prior."""
    parts = [f"{share:.0%} of the {region} box's place" for region, share in shares.items() if np.isfinite(share)]
    return f"the spatial prior (dashed: expected place) decided {' and '.join(parts)}" if parts else ""
