"""The page: it predicts as `baa.predict` does, shows file names without folders, and deletes what was uploaded."""

import io
import threading
import time
import zipfile

import pandas as pd
import pytest
from mutated import write_mutated
from PIL import Image

from baa.data.sources.phantom import phantom_cases
from baa.inference.inputs import InputFile
from baa.inference.prediction import Predictions
from baa.patient import Sex

pytest.importorskip("gradio", reason="the page needs it: pip install -e '.[app]'")


@pytest.fixture
def inputs(tmp_path):
    """Two hands and a text file."""
    for case in phantom_cases(2, seed=5):
        Image.fromarray(case.image.load(160).pixels).save(tmp_path / f"{case.id}.png")
    (tmp_path / "text.png").write_text("no image")
    return [InputFile(file, Sex.MALE, sex_source="option") for file in sorted(tmp_path.iterdir())]


@pytest.fixture
def model(finished):
    from baa import load_model

    return load_model(finished[0] / "tiny" / "estimator" / "best.ckpt", device="cpu", batch_size=4, coverage=0.5)


def test_files_are_read_in_any_thread_as_predict_reads_them(model, inputs, tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.extend(model.stream(inputs)))
    thread.start()
    thread.join()
    model.predict_files(inputs, tmp_path / "out", progress=False)
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    pd.testing.assert_frame_equal(
        pd.read_csv(io.StringIO(Predictions(found).to_pandas().to_csv(index=False))), table, atol=0.11
    )


def test_the_archive_holds_a_picture_for_each_file_that_was_read(model, inputs):
    from baa.web.pictures import overlays_zip

    names = [given.file.name for given in inputs]
    with zipfile.ZipFile(io.BytesIO(overlays_zip(list(model.stream(inputs)), names))) as pictures:
        assert pictures.namelist() == [f"{i + 1}_{inputs[i].file.stem}.png" for i in (0, 1)]
        assert Image.open(io.BytesIO(pictures.read(pictures.namelist()[0]))).width == 1024


EVIL = ("<script>alert(1)<.png", "=HYPERLINK(1)\N{RIGHT-TO-LEFT OVERRIDE}.png")


def test_the_page_shows_each_file_and_deletes_it(model, inputs, tmp_path_factory):
    from baa.web.page import SHOWN, answer

    evil, formula = (inputs[i].file.rename(inputs[i].file.with_name(name)) for i, name in enumerate(EVIL))
    files = [evil, formula, inputs[2].file]
    kept = tmp_path_factory.mktemp("kept")
    films, table, csv, pictures = answer(model, files, "female", False, kept)

    assert films.count("<figure>") == 3
    assert films.count('class="heat"') == 2
    assert "<script>" not in films
    assert "not an image in PNG, JPEG, TIFF, WebP, BMP or DICOM" in films
    assert list(table) == list(SHOWN)
    assert set(table.sex) == {"female"}
    assert not any(file.exists() for file in files)
    assert list(table.file) == [EVIL[0], r"./=HYPERLINK(1)\u202e.png", "text.png"]
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in films
    [written] = kept.rglob("predictions.csv")
    assert list(pd.read_csv(written).file) == list(table.file)
    assert csv.value
    assert pictures.value


@pytest.mark.slow
def test_no_damaged_file_stops_or_delays_it(model, tmp_path, tmp_path_factory):
    from baa.web.page import MOST_FILES, answer

    files = sorted(write_mutated(tmp_path).iterdir())
    assert len(files) >= 300
    for first in range(0, len(files), MOST_FILES):
        some = files[first : first + MOST_FILES]
        start = time.monotonic()
        _, table, _, _ = answer(model, some, "male", False, tmp_path_factory.mktemp("kept"))
        assert list(table.file) == [file.name for file in some]
        assert ((table.error != "") ^ (table.bone_age != "")).all()
        assert time.monotonic() - start < len(some)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_request_has_deleted_is_a_row_without_its_folder(model, inputs, tmp_path, tmp_path_factory):
    from baa.web.page import answer

    files = [tmp_path / "gone.png", inputs[0].file]
    _, table, _, _ = answer(model, files, "female", False, tmp_path_factory.mktemp("kept"))
    assert list(table.file) == ["gone.png", inputs[0].file.name]
    assert table.error[0].startswith("deleted, after another request for the same file")
    assert str(tmp_path) not in table.error[0]
    assert table.bone_age_months[1] > 0


def test_a_film_without_a_suffix_is_read_and_a_broken_decoder_costs_one_row(model, inputs, tmp_path_factory, monkeypatch):
    from baa.inference import files
    from baa.web.page import answer

    bare = inputs[0].file.rename(inputs[0].file.with_name("IM000001"))

    def decode(given, px, whole=files.decode_input):
        if given.file == inputs[1].file:
            raise ZeroDivisionError("of the patient Smith")
        return whole(given, px)

    monkeypatch.setattr(files, "decode_input", decode)
    shown, table, _, _ = answer(model, [bare, inputs[1].file], "female", False, tmp_path_factory.mktemp("kept"))
    assert table.bone_age_months[0] > 0
    assert table.error[1] == "could not be read: unexpected ZeroDivisionError"
    assert "Smith" not in shown


def test_no_file_and_too_many_files_are_refused_and_deleted(model, tmp_path):
    import gradio as gr

    from baa.web.page import MOST_FILES, answer

    with pytest.raises(gr.Error, match="Drop a radiograph"):
        answer(model, [], "female", False, tmp_path)
    files = [tmp_path / f"{i}.png" for i in range(MOST_FILES + 1)]
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(gr.Error, match="at a time"):
        answer(model, files, "female", False, tmp_path)
    assert not any(file.exists() for file in files)
