"""The web page: radiographs in, bone ages out, and a slider for the heat maps."""

import contextlib
import os
import tempfile
import threading
from asyncio import Queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd
from gradio.utils import LRUCache

from baa.api import Model
from baa.inference.inputs import InputFile
from baa.inference.prediction import Prediction, Predictions
from baa.names import printable, safe_path
from baa.patient import Sex
from baa.web.folder import KEPT_SECONDS
from baa.web.pictures import figure, overlays_zip

MOST_FILES, MOST_SHOWN = 200, 24
MOST_WAITING, MOST_SESSIONS = 50, 2000
"""Requests in the queue, and sessions whose messages are kept."""

FROM_FILE = "from the file"
SEXES = {FROM_FILE: None, "female": Sex.FEMALE, "male": Sex.MALE, "unknown": Sex.UNKNOWN}
SHOWN = (
    "file",
    "sex",
    "bone_age",
    "bone_age_months",
    "lower_months",
    "upper_months",
    "ood_score",
    "warnings",
    "error",
    "model",
)
AFTER_AGES = 6

ABOUT = """# Bone age
Drop radiographs of hands (PNG, JPEG, TIFF, DICOM).
**A research tool, not a medical device: do not treat anybody by its answers.**"""
KEPT = f"""At most {MOST_FILES} files at a time.
Radiographs are deleted after the answer, downloads {KEPT_SECONDS // 60} minutes later."""
GONE = "deleted, after another request for the same file or after half an hour; drop it again"

STYLE = """
.films { display: flex; flex-wrap: wrap; gap: 1em; }
.films figure { margin: 0; width: min(420px, 100%); }
.film { position: relative; } .film img, .film svg { display: block; width: 100%; }
.film .heat, .film svg { position: absolute; inset: 0; height: 100%; } .film .heat { opacity: var(--heat, .5); }
.films figcaption { font-size: 14px; line-height: 1.4; padding-top: .4em; } .films b { font-size: 17px; }
.doubt { background: #fff6e0; color: #222; padding: .2em .5em; border-left: 4px solid #e0a800; }
"""
FADE = "share => { document.documentElement.style.setProperty('--heat', share); }"
CLEAR = "() => null"


class Page(gr.Blocks):
    """Gradio's page that deletes the files of a request after its answer or refusal.

    Args:
        folder: of uploads.
        settings: of `gr.Blocks`.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.folder = folder.resolve()

    async def process_api(self, block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> dict[str, Any]:
        files = list(_uploads(inputs, self.folder))
        try:
            return await super().process_api(block_fn, inputs, *more, **named)
        finally:
            for file in files:
                with contextlib.suppress(OSError):
                    file.unlink()


class Messages(LRUCache[str, Any]):
    """The messages of each session. Those for a session that was forgotten are dropped.

    Gradio keeps 2,000 sessions, and its queue ended for good when it had a message for another one.
    """

    def __missing__(self, session: str) -> Any:
        return Queue()


def build(model: Model, folder: Path) -> gr.Blocks:
    """Build the page and its endpoint `/read`; `baa.web.serving` serves it.

    Args:
        model: that predicts. It answers one request at a time.
        folder: of uploads and downloads.
    """
    lock = threading.Lock()

    def read(files: list[str] | None, sex: str, strict: bool) -> tuple[str, pd.DataFrame, Any, Any]:
        with lock:
            return answer(model, [Path(file) for file in files or []], sex, strict, folder)

    with Page(folder, title="baa: bone age", analytics_enabled=False) as page:
        gr.Markdown(ABOUT)
        with gr.Row():
            files = gr.File(label="Radiographs", file_count="multiple", elem_id="files")  # DICOM files may have no suffix
            with gr.Column():
                sex = gr.Radio(list(SEXES), value=FROM_FILE, label="Sex")
                strict = gr.Checkbox(label="Refuse images that are not recognized as a whole hand")
                ask = gr.Button("Read", variant="primary", elem_id="read")
        fade = gr.Slider(0, 1, value=0.5, step=0.05, label="Heat map opacity", elem_id="fade")
        films = gr.HTML(elem_id="films")
        table = gr.Dataframe(headers=list(SHOWN), label="Predictions", wrap=True, interactive=False)
        with gr.Row():
            csv = gr.DownloadButton("Table (CSV)", interactive=False, elem_id="csv")
            pictures = gr.DownloadButton("Pictures (ZIP)", interactive=False, elem_id="pictures")
        gr.Markdown(KEPT)
        ask.click(read, [files, sex, strict], [films, table, csv, pictures], api_name="read", concurrency_limit=1).then(
            None, None, files, js=CLEAR, api_visibility="private"
        )
        fade.input(None, fade, None, js=FADE, api_visibility="private")
    page.queue(max_size=MOST_WAITING)
    page._queue.pending_messages_per_session = Messages(MOST_SESSIONS)
    return page


def _uploads(named: Any, folder: Path) -> Iterator[Path]:
    """The files in a folder that the data of a request name, at any depth."""
    if isinstance(named, dict):
        path = named.get("path")
        if isinstance(path, str) and "\0" not in path and os.path.realpath(path).startswith(f"{folder}{os.sep}"):
            yield Path(path)
        named = list(named.values())
    if isinstance(named, list):
        for one in named:
            yield from _uploads(one, folder)


def answer(model: Model, files: Sequence[Path], sex: str, strict: bool, folder: Path) -> tuple[str, pd.DataFrame, Any, Any]:
    """Answer a request: what the page shows, a table, and two files to download. Delete the radiographs.

    Args:
        model: that predicts.
        files: uploads; one that cannot be read costs its own row.
        sex: a key of `SEXES`.
        strict: whether a radiograph that is not recognized gets an error instead of an age.
        folder: for the downloads.

    Raises:
        gr.Error: no file, or too many.
    """
    try:
        if not files:
            raise gr.Error("Drop a radiograph first.", print_exception=False)
        if len(files) > MOST_FILES:
            most = f"{len(files)} files; at most {MOST_FILES} at a time. `python -m baa.predict` takes any number."
            raise gr.Error(most, print_exception=False)
        inputs = [InputFile(file, SEXES[sex], sex_source="page") for file in files]
        predictions = Predictions(_predict_all(model, inputs, strict))
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    table = predictions.to_pandas()
    names = [printable(file.name) for file in files]
    table["file"] = list(map(safe_path, names))
    made = Path(tempfile.mkdtemp(dir=folder))
    (made / "predictions.csv").write_text(table.to_csv(index=False))
    (made / "overlays.zip").write_bytes(overlays_zip(predictions, names))
    shown = [figure(name, prediction) for name, prediction in zip(names[:MOST_SHOWN], predictions, strict=False)]
    more = len(files) - MOST_SHOWN
    rest = f"<p>and {more} more, in the table and the downloads</p>" if more > 0 else ""
    streams = [f"{name}_months" for name in predictions[0].streams]
    columns = [*SHOWN[:AFTER_AGES], *streams, *SHOWN[AFTER_AGES:]]
    return (
        f'<div class="films">{"".join(shown)}</div>{rest}',
        table.astype(object).where(table.notna(), "")[columns],
        gr.DownloadButton(value=made / "predictions.csv", interactive=True),
        gr.DownloadButton(value=made / "overlays.zip", interactive=True),
    )


def _predict_all(model: Model, inputs: Sequence[InputFile], strict: bool) -> Iterator[Prediction]:
    """Yield the prediction of each upload in order; one that is gone is a prediction with an error."""
    here = [given.file.exists() for given in inputs]
    found = iter(_predict(model, [given for given, exists in zip(inputs, here, strict=True) if exists], strict))
    for given, exists in zip(inputs, here, strict=True):
        yield next(found) if exists else _failed(model, given, GONE)


def _predict(model: Model, inputs: Sequence[InputFile], strict: bool) -> list[Prediction]:
    try:
        return list(model.stream(inputs, strict=strict)) if inputs else []
    except Exception as error:  # nothing that one file does may cost the others their answer
        if len(inputs) == 1:
            return [_failed(model, inputs[0], f"could not be read: {type(error).__name__}")]
        return [prediction for given in inputs for prediction in _predict(model, [given], strict)]


def _failed(model: Model, given: InputFile, error: str) -> Prediction:
    cropper = model.trained.model.cropper
    regions = () if cropper is None else tuple(cropper.regions)
    sex = Sex.UNKNOWN if given.sex is None else given.sex
    return Prediction(file=given.name, sex=sex, coverage=model.coverage, regions=regions, error=error)
