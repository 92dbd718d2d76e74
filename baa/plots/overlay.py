"""An answer to look at: the radiograph with both boxes, the same under its heat maps, and above them what was read."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from baa.nets.cropper import REGIONS
from baa.plots.figures import REGION_COLOURS

PANEL_PX = 512
TEXT_PX = 18
HEAT_SHARE = 0.45
"""Of the heat map's colours over the film, where it is hottest."""


class Drawing(NamedTuple):
    """What there is to look at of an answer.

    film: the square radiograph [S, S] uint8, as it was read; heat: of both looks [2, h, w], not negative, None of a network
    that does not look; boxes: carpal and hand [2, 4] as shares of the square, None likewise; lines: of text.
    """

    film: np.ndarray
    heat: np.ndarray | None
    boxes: np.ndarray | None
    lines: Sequence[str]


def overlay(drawing: Drawing) -> Image.Image:
    """Draw an answer."""
    film, heat, boxes, lines = drawing
    grey = Image.fromarray(film).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC).convert("RGB")
    panels = [grey] if heat is None else [grey, _heated(grey, heat)]
    head = (len(lines) + 1) * TEXT_PX
    whole = Image.new("RGB", (2 * PANEL_PX, head + PANEL_PX))
    for place, panel in enumerate(panels):
        if boxes is not None:
            _draw_boxes(panel, boxes)
        whole.paste(panel, (place * PANEL_PX, head))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(TEXT_PX - 4)
    for row, line in enumerate(lines):
        draw.text((TEXT_PX // 2, row * TEXT_PX + TEXT_PX // 2), line, fill="white", font=font)
    return whole


def heat_layer(heat: np.ndarray, px: int) -> Image.Image:
    """The hotter of both looks, each against its own maximum, to lie over a film: RGBA, the more opaque the hotter."""
    looks = [np.asarray(Image.fromarray(look.astype(np.float32)).resize((px, px), Image.Resampling.BICUBIC)) for look in heat]
    hottest = np.max([look.clip(0) / max(float(look.max()), 1e-9) for look in looks], axis=0)
    colours = matplotlib.colormaps["jet"](hottest)
    colours[..., 3] = hottest
    return Image.fromarray((colours * 255).astype(np.uint8), "RGBA")


def _heated(grey: Image.Image, heat: np.ndarray) -> Image.Image:
    layer = heat_layer(heat, PANEL_PX)
    layer.putalpha(layer.getchannel("A").point(lambda opacity: opacity * HEAT_SHARE))
    return Image.alpha_composite(grey.convert("RGBA"), layer).convert("RGB")


def _draw_boxes(panel: Image.Image, boxes: np.ndarray) -> None:
    draw = ImageDraw.Draw(panel)
    for box, name in zip(boxes, REGIONS, strict=True):
        if np.isfinite(box).all():
            draw.rectangle([float(edge) * PANEL_PX for edge in box], outline=ImageColor.getrgb(REGION_COLOURS[name]), width=2)
