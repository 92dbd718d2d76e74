"""What the page says of files: as `predict` does, by their names alone, and nothing is left behind."""

import io
import tempfile
import threading
import time
import zipfile

import pandas as pd
import pytest
from mutated import write_mutated
from PIL import Image

from baa.data.sources.phantom.phantom import phantom_cases
from baa.inference.inputs import Asked
from baa.inference.predict import predict
from baa.patient import Sex

pytest.importorskip("gradio", reason="the page needs it: pip install -e '.[app]'")


@pytest.fixture
def asked(tmp_path):
    """Two hands and a file that is none."""
    for case in phantom_cases(2, seed=5):
        Image.fromarray(case.image.load(160).pixels).save(tmp_path / f"{case.id}.png")
    (tmp_path / "text.png").write_text("no image")
    return [Asked(file, Sex.MALE, by="option") for file in sorted(tmp_path.iterdir())]


@pytest.fixture
def reader(finished):
    from baa.web.reader import Reader

    return Reader(finished[0] / "tiny" / "estimator" / "best.ckpt", 0.5)


def test_files_are_read_as_predict_reads_them_in_any_thread(reader, finished, asked, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    found = []
    thread = threading.Thread(target=lambda: found.append(reader.read(asked)))
    thread.start()
    thread.join()
    [read] = found
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    predict(checkpoint, asked, tmp_path / "out", coverage=0.5, batch_size=4, workers=0, progress=False)
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")

    assert list(read.table.file) == [one.file.name for one in asked]
    pd.testing.assert_frame_equal(read.table.drop(columns="file"), table.drop(columns="file"), atol=0.11)
    assert list(scratch.iterdir()) == []
    assert sorted(read.drawings) == [0, 1]
    with zipfile.ZipFile(io.BytesIO(read.overlays())) as pictures:
        assert pictures.namelist() == [f"{i + 1}_{asked[i].file.stem}.png" for i in (0, 1)]
        assert Image.open(io.BytesIO(pictures.read(pictures.namelist()[0]))).width == 1024


def test_the_page_shows_each_file_and_deletes_it(reader, asked, tmp_path_factory, monkeypatch):
    from baa.web import page
    from baa.web.page import SHOWN, _answer

    monkeypatch.setattr(page, "COPIED_SECONDS", 0.5)
    evil = asked[0].file.with_name("<script>alert(1)<.png")
    asked[0].file.rename(evil)
    files = [evil, *(one.file for one in asked[1:])]
    kept = tmp_path_factory.mktemp("kept")
    films, table, csv, pictures = _answer(reader, files, "female", False, kept)

    assert films.count("<figure>") == 3
    assert films.count('class="heat"') == 2
    assert "<script>" not in films
    assert "not an image in PNG, JPEG, TIFF or DICOM" in films
    assert list(table) == list(SHOWN)
    assert set(table.sex) == {"female"}
    assert not any(file.exists() for file in files)
    assert csv.value
    assert pictures.value
    begun = time.monotonic()
    while list(kept.iterdir()) and time.monotonic() - begun < 10:
        time.sleep(0.1)
    assert list(kept.iterdir()) == []


@pytest.mark.slow
def test_no_damaged_file_ends_it_or_holds_it_up(reader, tmp_path, tmp_path_factory):
    from baa.web.page import MOST_FILES, _answer

    files = sorted(write_mutated(tmp_path).iterdir())
    assert len(files) >= 300
    for first in range(0, len(files), MOST_FILES):
        some = files[first : first + MOST_FILES]
        begun = time.monotonic()
        _, table, _, _ = _answer(reader, some, "male", False, tmp_path_factory.mktemp("kept"))
        assert list(table.file) == [file.name for file in some]
        assert ((table.error != "") ^ (table.bone_age != "")).all()
        assert time.monotonic() - begun < len(some)
    assert list(tmp_path.iterdir()) == []


def test_what_another_request_has_deleted_is_told_without_its_folder(reader, tmp_path):
    import gradio as gr

    from baa.web.page import _answer

    with pytest.raises(
        gr.Error, match=r"^'gone.png was just read, and deleted, for somebody who dropped the same; drop it again.'$"
    ):
        _answer(reader, [tmp_path / "gone.png"], "female", False, tmp_path)


def test_nothing_or_too_much_is_refused_and_deleted(reader, tmp_path):
    import gradio as gr

    from baa.web.page import MOST_FILES, _answer

    with pytest.raises(gr.Error, match="Drop a radiograph"):
        _answer(reader, [], "female", False, tmp_path)
    files = [tmp_path / f"{i}.png" for i in range(MOST_FILES + 1)]
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(gr.Error, match="at a time"):
        _answer(reader, files, "female", False, tmp_path)
    assert not any(file.exists() for file in files)
