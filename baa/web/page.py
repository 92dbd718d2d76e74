"""The page: radiographs in, ages out, and a slider between the film and what the network looked at."""

import base64
import html
import io
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from PIL import Image

from baa.data.radiograph import IMAGE_SUFFIXES, MAX_BYTES
from baa.errors import InputError
from baa.inference.inputs import Asked
from baa.nets.cropper import REGIONS
from baa.patient import Sex
from baa.plots.figures import REGION_COLOURS
from baa.plots.overlay import PANEL_PX, Drawing, heat_layer
from baa.web.reader import Reader

MOST_FILES, MOST_SHOWN = 200, 24
SWEEP_SECONDS, KEPT_SECONDS = 300, 1800
"""How often what was made to be downloaded is looked through, and how old of it goes."""

COPIED_SECONDS = 60.0
"""After which Gradio has a copy of what was made, which it looks after."""

FROM_FILE = "as the file says"
SEXES = {FROM_FILE: None, "female": Sex.FEMALE, "male": Sex.MALE, "unknown": Sex.UNKNOWN}
SHOWN = ("file", "sex", "bone_age", "bone_age_months", "lower_months", "upper_months", "strangeness", "warnings", "error")

ABOUT = """# Bone age
Drop radiographs of hands (PNG, JPEG, TIFF, DICOM).
**A research tool, not a medical device: nobody may be treated by what it says.**"""
KEPT = f"""At most {MOST_FILES} files at a time.
Radiographs are deleted once they are answered for, what can be downloaded half an hour later."""

STYLE = """
.films { display: flex; flex-wrap: wrap; gap: 1em; }
.films figure { margin: 0; width: min(420px, 100%); }
.film { position: relative; } .film img, .film svg { display: block; width: 100%; }
.film .heat, .film svg { position: absolute; inset: 0; height: 100%; } .film .heat { opacity: var(--heat, .5); }
.films figcaption { font-size: 14px; line-height: 1.4; padding-top: .4em; } .films b { font-size: 17px; }
.doubt { background: #fff6e0; color: #222; padding: .2em .5em; border-left: 4px solid #e0a800; }
"""
FADE = "share => { document.documentElement.style.setProperty('--heat', share); }"


def build(reader: Reader, folder: Path) -> gr.Blocks:
    """The page and its endpoint `/read`; nobody is served yet.

    Args:
        reader: answers.
        folder: for what is made to be downloaded.
    """

    def read(files: list[str] | None, sex: str, strict: bool) -> tuple[str, pd.DataFrame, Any, Any]:
        return _answer(reader, [Path(file) for file in files or []], sex, strict, folder)

    with gr.Blocks(title="baa: bone age", analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(ABOUT)
        with gr.Row():
            files = gr.File(label="Radiographs", file_count="multiple", file_types=list(IMAGE_SUFFIXES), elem_id="files")
            with gr.Column():
                sex = gr.Radio(list(SEXES), value=FROM_FILE, label="Sex")
                strict = gr.Checkbox(label="Refuse what is not taken for a whole hand")
                ask = gr.Button("Read", variant="primary", elem_id="read")
        fade = gr.Slider(0, 1, value=0.5, step=0.05, label="Heat map over the film", elem_id="fade")
        films = gr.HTML(elem_id="films")
        table = gr.Dataframe(headers=list(SHOWN), label="Answers", wrap=True, interactive=False)
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
    """Serve until interrupted; no file of this machine is reached but those that were dropped.

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
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),  # others are fetched
            css=STYLE,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"port {port} of {host} cannot be listened at, is it taken? Give another --port") from error
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was dropped goes
    sys.stdout.write(f"http://{host}:{port} (stop with Ctrl-C)\n")
    sys.stdout.flush()
    page.block_thread()


def _answer(reader: Reader, files: Sequence[Path], sex: str, strict: bool, folder: Path) -> tuple[str, pd.DataFrame, Any, Any]:
    try:
        if not files:
            raise gr.Error("Drop a radiograph first.")
        if len(files) > MOST_FILES:
            raise gr.Error(f"{len(files)} files; {MOST_FILES} at a time. `python -m baa.predict` takes any number.")
        if gone := [file for file in files if not file.exists()]:  # Gradio keeps one of two that are alike
            raise gr.Error(f"{gone[0].name} was just read, and deleted, for somebody who dropped the same; drop it again.")
        found = reader.read([Asked(file, SEXES[sex], by="page") for file in files], strict=strict)
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder))
    (made / "predictions.csv").write_text(found.table.to_csv(index=False))
    (made / "overlays.zip").write_bytes(found.overlays())
    forget = threading.Timer(COPIED_SECONDS, shutil.rmtree, [made], {"ignore_errors": True})
    forget.daemon = True
    forget.start()
    told = found.table.astype(object).where(found.table.notna(), "")
    shown = [_figure(row, found.drawings.get(place)) for place, row in enumerate(told[:MOST_SHOWN].to_dict("records"))]
    more = len(files) - MOST_SHOWN
    rest = f"<p>and {more} more, in the table and the downloads</p>" if more > 0 else ""
    return (
        f'<div class="films">{"".join(shown)}</div>{rest}',
        told[list(SHOWN)],
        gr.DownloadButton(value=made / "predictions.csv", interactive=True),
        gr.DownloadButton(value=made / "overlays.zip", interactive=True),
    )


def _figure(row: dict[Any, Any], drawing: Drawing | None) -> str:
    """One file's film, heat map and boxes over each other, and below them the answer."""
    name = html.escape(str(row["file"]))
    if drawing is None:
        why = html.escape(str(row["error"]))
        return f'<figure><figcaption><b>{name}</b><br><span class="doubt">{why}</span></figcaption></figure>'
    film = Image.fromarray(drawing.film).resize((PANEL_PX, PANEL_PX), Image.Resampling.BICUBIC)
    layers = [f'<img alt="radiograph" src="{_source(film)}">']
    if drawing.heat is not None:
        layers.append(f'<img class="heat" alt="heat map" src="{_source(heat_layer(drawing.heat, PANEL_PX))}">')
    if drawing.boxes is not None:
        layers.append(f'<svg viewBox="0 0 1 1">{"".join(map(_box, drawing.boxes, REGIONS))}</svg>')
    estimate, *others = (html.escape(line) for line in drawing.lines)
    *told, doubts = others
    doubt = f'<br><span class="doubt">{doubts}</span>' if row["warnings"] else ""
    return (
        f'<figure><div class="film">{"".join(layers)}</div>'
        f"<figcaption>{name}<br><b>{estimate}</b><br>{'<br>'.join(told)}{doubt}</figcaption></figure>"
    )


def _box(box: np.ndarray, region: str) -> str:
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return (
        f'<rect x="{x0:.4f}" y="{y0:.4f}" width="{x1 - x0:.4f}" height="{y1 - y0:.4f}" fill="none" '
        f'stroke="{REGION_COLOURS[region]}" stroke-width="0.006"><title>{region}</title></rect>'
    )


def _source(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
