"""Files to months: the same months as `evaluate`, a row for whatever is given."""

import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image


@pytest.fixture
def hands(tmp_path):
    """Three phantoms as files, with their boxes' frame: a tall one, so that padding matters."""
    from baa.data.phantom import phantom_cases

    folder = tmp_path / "hands"
    folder.mkdir()
    for case in phantom_cases(3, seed=5):
        Image.fromarray(case.image.load(160).pixels[:, 20:-20]).save(folder / f"{case.id}.png")
    return folder


def test_files_are_read_as_evaluate_reads_them(finished, hands, tmp_path):
    from baa.nets.fusion import Sex
    from baa.training.evaluation import evaluate
    from baa.training.prediction import predict

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    files = sorted(hands.iterdir())
    (tmp_path / "cases.csv").write_text("id,file,sex\n" + "".join(f"{f.stem},{f.name},female\n" for f in files))
    table = ["data.source=table", f"data.table.file={tmp_path / 'cases.csv'}", "data.table.image=file", "data.table.id=id"]
    table += [f"data.root={hands}", "data.table.months=null", "data.table.sex=sex", f"data.cache={tmp_path / 'cache'}"]
    evaluate(checkpoint, table, split="unseen", out=tmp_path / "judged")
    judged = pd.read_csv(tmp_path / "judged" / "predictions.csv").sort_values("id", ignore_index=True)

    assert predict(checkpoint, [hands], Sex.FEMALE, tmp_path / "out", batch_size=2, workers=0, progress=False) == (3, 0)
    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(read.file) == [str(file) for file in files]
    assert list(read.bone_age_months) == pytest.approx(list(judged.predicted_months), abs=0.06)
    boxes = [name for name in judged if name.endswith(("x0", "y0", "x1", "y1"))]
    assert len(boxes) == 8
    assert read[boxes].to_numpy() == pytest.approx(judged[boxes].to_numpy(), abs=0.11)


def test_a_bad_file_is_a_row_with_its_reason(finished, hands, tmp_path):
    first = sorted(hands.iterdir())[0]
    first.write_bytes(first.read_bytes()[:200])
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    command = [sys.executable, "-m", "baa.predict", "--checkpoint", str(checkpoint), str(hands), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True)

    assert done.returncode == 1, done.stderr
    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert read.error.notna().tolist() == [True, False, False]
    assert read.bone_age_months.notna().tolist() == [False, True, True]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["predictions.csv"]


def test_what_is_not_there_is_refused_before_any_work(finished, tmp_path):
    from baa.errors import InputError
    from baa.nets.fusion import Sex
    from baa.training.prediction import predict

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    with pytest.raises(InputError, match=r"nothing.png is not there"):
        predict(checkpoint, [tmp_path / "nothing.png"], Sex.MALE, tmp_path / "out", batch_size=2, workers=0)
    assert not (tmp_path / "out").exists()
