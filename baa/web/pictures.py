"""Predictions as the page shows them, and as an archive of pictures."""

import base64
import html
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from baa.inference.prediction import Prediction
from baa.names import file_stem
from baa.plots.figures import region_color
from baa.plots.overlay import PANEL_PX, heat_layer

MOST_BYTES = 200
"""Of the name of a picture. File systems take 255."""


def overlays_zip(predictions: Sequence[Prediction], names: Sequence[str]) -> bytes:
    """Pack the overlays of all predictions without an error into a ZIP archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as pictures:
        for place, (name, prediction) in enumerate(zip(names, predictions, strict=True), start=1):
            if not prediction.error:
                picture = io.BytesIO()
                prediction.plot().save(picture, "PNG")
                pictures.writestr(f"{place}_{file_stem(Path(name).stem, MOST_BYTES)}.png", picture.getvalue())
    return archive.getvalue()


def figure(file: str, prediction: Prediction) -> str:
    """Stack a radiograph, its heat maps and its boxes, with the prediction below."""
    name = html.escape(file)
    if prediction.error:
        why = html.escape(prediction.error)
        return f'<figure><figcaption><b>{name}</b><br><span class="doubt">{why}</span></figcaption></figure>'
    drawing = prediction.drawing()
    film = Image.fromarray(drawing.film).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC)
    layers = [f'<img alt="radiograph" src="{_source(film)}">']
    if drawing.heat is not None:
        layers.append(f'<img class="heat" alt="heat map" src="{_source(heat_layer(drawing.heat, PANEL_PX))}">')
    for boxes, style in ((drawing.boxes, ""), (drawing.prior_boxes, ' stroke-dasharray="0.015"')):
        if boxes is not None:
            shapes = [_box(box, region, i, style) for i, (box, region) in enumerate(zip(boxes, drawing.regions, strict=True))]
            layers.append(f'<svg viewBox="0 0 1 1">{"".join(shapes)}</svg>')
    estimate, *details, warning = (html.escape(line) for line in drawing.lines)
    described = "<br>".join(details)
    doubt = f'<br><span class="doubt">{warning}</span>' if prediction.warnings else ""
    return (
        f'<figure><div class="film">{"".join(layers)}</div>'
        f"<figcaption>{name}<br><b>{estimate}</b><br>{described}{doubt}</figcaption></figure>"
    )


def _box(box: np.ndarray, region: str, index: int, style: str) -> str:
    if not np.isfinite(box).all():
        return ""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return (
        f'<rect x="{x0:.4f}" y="{y0:.4f}" width="{x1 - x0:.4f}" height="{y1 - y0:.4f}" fill="none" '
        f'stroke="{region_color(region, index)}" stroke-width="0.006"{style}><title>{region}</title></rect>'
    )


def _source(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
