"""The web page: radiographs in, bone ages out, and a slider for the heat maps."""

import base64
import html
import io
import shutil
import signal
import sys
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from PIL import Image

from baa.api import Model
from baa.data.radiograph import IMAGE_SUFFIXES, MAX_BYTES
from baa.errors import InputError
from baa.inference.inputs import InputFile
from baa.inference.prediction import Prediction, Predictions
from baa.patient import Sex
from baa.plots.figures import region_color
from baa.plots.overlay import PANEL_PX, heat_layer

MOST_FILES, MOST_SHOWN = 200, 24
SWEEP_SECONDS, KEPT_SECONDS = 300, 1800
"""How often downloads are checked, and the age at which they are deleted."""

COPIED_SECONDS = 60.0
"""After this time Gradio has its own copy of a download."""

FROM_FILE = "from the file"
SEXES = {FROM_FILE: None, "female": Sex.FEMALE, "male": Sex.MALE, "unknown": Sex.UNKNOWN}
SHOWN = ("file", "sex", "bone_age", "bone_age_months", "lower_months", "upper_months", "ood_score", "warnings", "error")

ABOUT = """# Bone age
Drop radiographs of hands (PNG, JPEG, TIFF, DICOM).
**A research tool, not a medical device: do not treat anybody by its answers.**"""
KEPT = f"""At most {MOST_FILES} files at a time.
Radiographs are deleted after the answer, downloads half an hour later."""

STYLE = """
.films { display: flex; flex-wrap: wrap; gap: 1em; }
.films figure { margin: 0; width: min(420px, 100%); }
.film { position: relative; } .film img, .film svg { display: block; width: 100%; }
.film .heat, .film svg { position: absolute; inset: 0; height: 100%; } .film .heat { opacity: var(--heat, .5); }
.films figcaption { font-size: 14px; line-height: 1.4; padding-top: .4em; } .films b { font-size: 17px; }
.doubt { background: #fff6e0; color: #222; padding: .2em .5em; border-left: 4px solid #e0a800; }
"""
FADE = "share => { document.documentElement.style.setProperty('--heat', share); }"


def build(model: Model, folder: Path) -> gr.Blocks:
    """Build the page and its endpoint `/read`; `serve` serves it.

    Args:
        model: that predicts. It answers one request at a time.
        folder: for files to download.
    """
    lock = threading.Lock()

    def read(files: list[str] | None, sex: str, strict: bool) -> tuple[str, pd.DataFrame, Any, Any]:
        with lock:
            return _answer(model, [Path(file) for file in files or []], sex, strict, folder)

    with gr.Blocks(title="baa: bone age", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(ABOUT)
        with gr.Row():
            files = gr.File(label="Radiographs", file_count="multiple", file_types=list(IMAGE_SUFFIXES), elem_id="files")
            with gr.Column():
                sex = gr.Radio(list(SEXES), value=FROM_FILE, label="Sex")
                strict = gr.Checkbox(label="Refuse what is not recognized as a whole hand")
                ask = gr.Button("Read", variant="primary", elem_id="read")
        fade = gr.Slider(0, 1, value=0.5, step=0.05, label="Heat map over the film", elem_id="fade")
        films = gr.HTML(elem_id="films")
        table = gr.Dataframe(headers=list(SHOWN), label="Predictions", wrap=True, interactive=False)
        with gr.Row():
            csv = gr.DownloadButton("Table (CSV)", interactive=False, elem_id="csv")
            pictures = gr.DownloadButton("Pictures (ZIP)", interactive=False, elem_id="pictures")
        gr.Markdown(KEPT)
        ask.click(read, [files, sex, strict], [films, table, csv, pictures], api_name="read", concurrency_limit=1).then(
            lambda: None, None, files, api_visibility="private"
        )
        fade.input(None, fade, None, js=FADE, api_visibility="private")
    return page


def serve(page: gr.Blocks, host: str, port: int) -> None:
    """Serve until interrupted. Only uploaded files can be reached.

    Raises:
        InputError: the port is taken.
    """
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            show_error=True,
            max_file_size=MAX_BYTES,
            ssr_mode=False,
            footer_links=["api"],
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # others are downloaded
            css=STYLE,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: the port is in use; choose another with --port") from error
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that uploads are deleted
    sys.stdout.write(f"http://{host}:{port} (stop with Ctrl-C)\n")
    sys.stdout.flush()
    page.block_thread()


def _answer(model: Model, files: Sequence[Path], sex: str, strict: bool, folder: Path) -> tuple[str, pd.DataFrame, Any, Any]:
    try:
        if not files:
            raise gr.Error("Drop a radiograph first.")
        if len(files) > MOST_FILES:
            raise gr.Error(f"{len(files)} files; at most {MOST_FILES} at a time. `python -m baa.predict` takes any number.")
        if gone := [file for file in files if not file.exists()]:  # Gradio keeps one of two equal uploads
            raise gr.Error(f"{gone[0].name} was deleted after another request for the same file; drop it again.")
        inputs = [InputFile(file, SEXES[sex], sex_source="page") for file in files]
        predictions = Predictions(model.stream(inputs, strict=strict))
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    table = predictions.to_pandas()
    table["file"] = names = [file.name for file in files]
    made = Path(tempfile.mkdtemp(dir=folder))
    (made / "predictions.csv").write_text(table.to_csv(index=False))
    (made / "overlays.zip").write_bytes(overlays_zip(predictions, names))
    delete = threading.Timer(COPIED_SECONDS, shutil.rmtree, [made], {"ignore_errors": True})
    delete.daemon = True
    delete.start()
    shown = [_figure(name, prediction) for name, prediction in zip(names[:MOST_SHOWN], predictions, strict=False)]
    more = len(files) - MOST_SHOWN
    rest = f"<p>and {more} more, in the table and the downloads</p>" if more > 0 else ""
    return (
        f'<div class="films">{"".join(shown)}</div>{rest}',
        table.astype(object).where(table.notna(), "")[list(SHOWN)],
        gr.DownloadButton(value=made / "predictions.csv", interactive=True),
        gr.DownloadButton(value=made / "overlays.zip", interactive=True),
    )


def overlays_zip(predictions: Sequence[Prediction], names: Sequence[str]) -> bytes:
    """Pack the overlays of all predictions without an error into a ZIP archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as pictures:
        for place, (name, prediction) in enumerate(zip(names, predictions, strict=True), start=1):
            if not prediction.error:
                picture = io.BytesIO()
                prediction.plot().save(picture, "PNG")
                pictures.writestr(f"{place}_{Path(name).stem}.png", picture.getvalue())
    return archive.getvalue()


def _figure(file: str, prediction: Prediction) -> str:
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
