"""Files to months: the same months as `evaluate`, a row for whatever is given."""

import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from dicom_file import PLANTED, dicom
from PIL import Image


@pytest.fixture
def hands(tmp_path):
    """Three phantoms as files, with their boxes' frame: a tall one, so that padding matters."""
    from baa.data.sources.phantom.phantom import phantom_cases

    folder = tmp_path / "hands"
    folder.mkdir()
    for case in phantom_cases(3, seed=5):
        Image.fromarray(case.image.load(160).pixels[:, 20:-20]).save(folder / f"{case.id}.png")
    return folder


def test_files_are_read_as_evaluate_reads_them(finished, hands, tmp_path):
    from baa.evaluation.checkpoint import evaluate
    from baa.inference.inputs import Asked
    from baa.inference.predict import predict
    from baa.patient import Sex

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    files = sorted(hands.iterdir())
    Image.open(files[1]).rotate(180).save(files[1])
    (tmp_path / "cases.csv").write_text("id,file,sex\n" + "".join(f"{f.stem},{f.name},female\n" for f in files))
    table = ["data.source=table", f"data.table.file={tmp_path / 'cases.csv'}", "data.table.image=file", "data.table.id=id"]
    table += [f"data.root={hands}", "data.table.months=null", "data.table.sex=sex", f"data.cache={tmp_path / 'cache'}"]
    evaluate(checkpoint, table, split="unseen", out=tmp_path / "judged")
    judged = pd.read_csv(tmp_path / "judged" / "predictions.csv").sort_values("id", ignore_index=True)

    asked = [Asked(file, Sex.FEMALE) for file in files]
    assert predict(checkpoint, asked, tmp_path / "out", batch_size=2, workers=0, progress=False) == (3, 0)
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
    done = subprocess.run([*command, "--workers", "1", "--disagreement"], capture_output=True, text=True)

    assert done.returncode == 1, done.stderr
    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert read.error.notna().tolist() == [True, False, False]
    assert read.bone_age_months.notna().tolist() == [False, True, True]
    assert (read.disagreement_months >= 0).tolist() == [False, True, True]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["overlays", "predictions.csv"]
    answered = sorted(f"{file.stem}.png" for file in hands.iterdir())[1:]
    assert sorted(file.name for file in (tmp_path / "out" / "overlays").iterdir()) == answered


def test_a_patients_name_goes_nowhere(finished, hands, tmp_path):
    pixels = np.asarray(Image.open(sorted(hands.iterdir())[0]))
    planted = dict.fromkeys(("StudyDescription", "InstitutionName", "ReferringPhysicianName", "AccessionNumber"), PLANTED)
    films = tmp_path / "films"
    films.mkdir()
    whole = dicom(pixels, PatientSex="F", PatientAge="011Y", PatientBirthDate="20120101", **planted)
    (films / "1.dcm").write_bytes(whole)
    (films / "2.dcm").write_bytes(whole[:-999])
    (films / "3.dcm").write_bytes(dicom(pixels, Modality="MR", BodyPartExamined=PLANTED, **planted))
    (films / "4.dcm").write_bytes(dicom(pixels, BodyPartExamined=PLANTED, PatientAge=PLANTED, WindowWidth="1", **planted))
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    command = [sys.executable, "-m", "baa.predict", str(films), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)

    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert done.returncode == 1, done.stderr
    assert read.error.notna().tolist() == [False, True, True, False]
    assert list(read.loc[0, ["sex", "sex_from", "age_months"]]) == ["female", "file", 132]
    assert read.ahead_months[0] == pytest.approx(read.bone_age_months[0] - 132)
    assert read.ahead_deviations[0] == pytest.approx(read.ahead_months[0] / 11.94, abs=0.05)
    written = [file.name + file.read_text(errors="replace") for file in (tmp_path / "out").rglob("*") if file.is_file()]
    for secret in ("SECRET", "20120101"):
        assert secret not in done.stdout + done.stderr + "".join(written)


def test_what_is_not_there_is_refused_before_any_work(finished, tmp_path):
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    command = [sys.executable, "-m", "baa.predict", "--checkpoint", str(checkpoint), str(tmp_path / "nothing.png")]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True)

    assert done.returncode == 2
    assert "nothing.png is not there" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_processes_share_the_files_and_the_last_one_writes_the_table(finished, hands, tmp_path, monkeypatch):
    from baa.inference import shards
    from baa.inference.inputs import Asked
    from baa.inference.predict import predict
    from baa.patient import Sex

    monkeypatch.setattr(shards, "SHARD", 2)
    files = [*sorted(hands.iterdir()), *[tmp_path / f"copy{i}.png" for i in range(4)]]
    for copy in files[3:]:
        copy.write_bytes(files[0].read_bytes())
    files[4].write_text("not an image")
    asked = [Asked(file, Sex.FEMALE) for file in files]

    def share(process, out):
        for name, value in {"RANK": process, "WORLD_SIZE": 2, "LOCAL_RANK": process, "TORCHELASTIC_RUN_ID": "x"}.items():
            monkeypatch.setenv(name, str(value))
        return predict(checkpoint, asked, tmp_path / out, batch_size=3, workers=0, progress=False)

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    assert predict(checkpoint, asked, tmp_path / "one", batch_size=3, workers=0, progress=False) == (7, 1)
    assert share(1, "two") == (7, None)
    assert not (tmp_path / "two" / "predictions.csv").exists()
    assert share(0, "two") == (7, 1)
    one, two = (pd.read_csv(tmp_path / out / "predictions.csv") for out in ("one", "two"))
    assert list(two.file) == list(map(str, files))
    pd.testing.assert_frame_equal(two, one, atol=0.11)  # batches of other radiographs round otherwise

    parts = sorted((tmp_path / "two" / "parts").glob("*/*.parquet"))
    kept = {part: part.stat().st_mtime_ns for part in parts}
    parts[2].unlink()  # a process was killed
    (tmp_path / "two" / "predictions.csv").unlink()
    assert share(1, "two") == (7, None)
    assert share(0, "two") == (7, 1)
    assert [part.stat().st_mtime_ns == kept[part] for part in parts] == [True, True, False, True]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "two" / "predictions.csv"), one, atol=0.11)


def test_an_interrupted_prediction_says_so_by_its_exit_code(finished, hands, tmp_path, monkeypatch):
    from baa.inference.inputs import Asked
    from baa.inference.predict import predict
    from baa.inference.rows import Answers
    from baa.patient import Sex

    monkeypatch.setattr(Answers, "give", lambda *_: signal.raise_signal(signal.SIGINT))
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as left:
        predict(checkpoint, [Asked(next(hands.iterdir()), Sex.MALE)], tmp_path, batch_size=1, workers=0, progress=False)
    assert left.value.code == 130
    assert signal.getsignal(signal.SIGINT) == before
