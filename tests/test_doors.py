"""Whoever reads files of strangers decodes them in a process that may die. Training has a test of its own, in test_fit.py."""

import ast
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import baa

DECODERS = {"imagecodecs", "pydicom", "tifffile", "cv2", "open", "read_dicom", "read_picture", "decode_stream", "decode_rle"}
"""Packages and functions that decode images. `open` is Pillow's."""


@pytest.fixture
def films(tmp_path):
    from baa.data.sources.phantom import phantom_cases

    folder = tmp_path / "films"
    folder.mkdir()
    for case in phantom_cases(2, seed=5):
        Image.fromarray(case.image.load(160).pixels[:, 20:-20]).save(folder / f"{case.id}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def checkpoint(finished):
    return finished[0] / "tiny" / "estimator" / "best.ckpt"


@pytest.fixture
def model(checkpoint):
    return baa.load_model(checkpoint, device="cpu", batch_size=2)


def predict_with_a_command(checkpoint, films, folder, monkeypatch):
    from baa.cli import run_command
    from baa.predict import main

    given = ["--checkpoint", checkpoint, "--out", folder / "out", "--workers", "0", "--no-overlays", *films]
    monkeypatch.setattr("sys.argv", ["baa.predict", *map(str, given)])
    run_command(main)


def predict_in_python(checkpoint, films, folder, monkeypatch):
    assert not any(prediction.error for prediction in baa.load_model(checkpoint, device="cpu").predict(films))


def predict_bytes(checkpoint, films, folder, monkeypatch):
    from baa.inference.files import FileDataset
    from baa.inference.inputs import InputFile

    inputs = [InputFile(film, content=film.read_bytes()) for film in films]
    assert not any(sample.error for sample in FileDataset(inputs, range(len(films)), 64))


def answer_on_the_page(checkpoint, films, folder, monkeypatch):
    pytest.importorskip("gradio", reason="the page needs it: pip install -e '.[app]'")
    from baa.web.page import answer

    _, table, _, _ = answer(baa.load_model(checkpoint, device="cpu"), films, "female", False, folder)
    assert not table.error.any()


def evaluate(checkpoint, films, folder, monkeypatch):
    (folder / "cases.csv").write_text("file,sex\n" + "".join(f"{film.name},female\n" for film in films))
    table = ["data.source=table", f"data.table.file={folder / 'cases.csv'}", "data.table.image=file", "data.table.sex=sex"]
    table += [f"data.root={films[0].parent}", "data.table.months=null", f"data.cache={folder / 'cache'}"]
    baa.load_model(checkpoint, device="cpu").evaluate(table, split="test", out=folder / "evaluated")
    table = pd.read_csv(folder / "evaluated" / "predictions.csv")
    assert len(table) == len(films)  # the source has no split, so the model has seen none of it: it is judged whole


@pytest.mark.parametrize(
    "door",
    [predict_with_a_command, predict_in_python, predict_bytes, answer_on_the_page, evaluate],
    ids=lambda door: door.__name__,
)
def test_a_file_is_decoded_in_a_process_apart(door, checkpoint, films, tmp_path, monkeypatch, decoded_apart):
    sent = {film.read_bytes() for film in films}
    door(checkpoint, films, tmp_path, monkeypatch)
    assert set(decoded_apart) == sent


def decoders_in(source):
    """The lines of a module that import or call what decodes images."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                used = {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module), names=names):
                used = {module.partition(".")[0], *(alias.name for alias in names)}
                used |= {"read_picture"} if module == "baa.data.read.decode" and "decode" in used else set()
            case ast.Attribute(value=ast.Name(id="Image"), attr="open"):
                used = {"open"}
            case _:
                continue
        if used & DECODERS:
            yield node.lineno


def test_no_other_module_decodes():
    """Benchmarks and stress tests decode what they have written; `preprocess.py` is for other programs."""
    root = Path(baa.__file__).parent
    found = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        if list(decoders_in(file.read_text())) and not file.is_relative_to(root / "benchmarks")
    }
    reading = {"decode", "dicom", "header", "luts", "picture", "codestream", "serve", "stored", "square", "shrink"}
    found -= {"data/transformations.py", "inference/preprocess.py"}
    assert found <= {f"data/read/{name}.py" for name in reading}, found
    assert {"data/read/serve.py", "data/read/picture.py"} <= found
