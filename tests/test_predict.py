"""Files to months: the same months as `evaluate`, and a row for every file."""

import os
import signal
import sys

import forked
import numpy as np
import pandas as pd
import pytest
from dicom_file import PLANTED, dicom
from PIL import Image
from tiny_run import settings


@pytest.fixture
def checkpoint(finished):
    return finished[0] / "tiny" / "estimator" / "best.ckpt"


@pytest.fixture
def hands(tmp_path):
    """Three phantoms as files; they are tall, so that padding matters."""
    from baa.data.sources.phantom import phantom_cases

    folder = tmp_path / "hands"
    folder.mkdir()
    for case in phantom_cases(3, seed=5):
        Image.fromarray(case.image.load(160).pixels[:, 20:-20]).save(folder / f"{case.id}.png")
    return folder


@pytest.fixture
def predict(monkeypatch):
    """Run the command in this process; return its exit code."""
    from baa.cli import run_command
    from baa.predict import main

    def predict(*arguments):
        monkeypatch.setattr(sys, "argv", ["baa.predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            run_command(main)
        return exit_.value.code

    return predict


def test_files_are_read_as_evaluate_reads_them(checkpoint, hands, tmp_path):
    from baa import load_model
    from baa.inference.inputs import InputFile
    from baa.patient import Sex

    model = load_model(checkpoint, device="cpu", batch_size=2)
    files = sorted(hands.iterdir())
    Image.open(files[1]).rotate(180).save(files[1])
    (tmp_path / "cases.csv").write_text("id,file,sex\n" + "".join(f"{f.stem},{f.name},female\n" for f in files))
    table = ["data.source=table", f"data.table.file={tmp_path / 'cases.csv'}", "data.table.image=file", "data.table.id=id"]
    table += [f"data.root={hands}", "data.table.months=null", "data.table.sex=sex", f"data.cache={tmp_path / 'cache'}"]
    model.evaluate(table, split="unseen", out=tmp_path / "evaluated")
    evaluated = pd.read_csv(tmp_path / "evaluated" / "predictions.csv").sort_values("id", ignore_index=True)

    inputs = [InputFile(file, Sex.FEMALE) for file in files]
    assert model.predict_files(inputs, tmp_path / "out", progress=False) == (3, 0)
    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(read.file) == [str(file) for file in files]
    assert list(read.bone_age_months) == pytest.approx(list(evaluated.predicted_months), abs=0.06)
    boxes = [name for name in evaluated if name.endswith(("x0", "y0", "x1", "y1"))]
    assert len(boxes) == 8
    assert read[boxes].to_numpy() == pytest.approx(evaluated[boxes].to_numpy(), abs=0.11)


def test_a_bad_file_is_a_row_with_its_reason(predict, checkpoint, hands, tmp_path):
    first = sorted(hands.iterdir())[0]
    first.write_bytes(first.read_bytes()[:200])
    assert predict("--checkpoint", checkpoint, hands, "--out", tmp_path / "out", "--workers", 1, "--disagreement") == 1
    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert read.error.notna().tolist() == [True, False, False]
    assert read.bone_age_months.notna().tolist() == [False, True, True]
    assert (read.disagreement_months >= 0).tolist() == [False, True, True]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["overlays", "predictions.csv"]
    predicted = sorted(f"{file.stem}.png" for file in hands.iterdir())[1:]
    assert sorted(file.name for file in (tmp_path / "out" / "overlays").iterdir()) == predicted


def test_a_patients_name_is_written_nowhere(checkpoint, hands, tmp_path):
    pixels = np.asarray(Image.open(sorted(hands.iterdir())[0]))
    planted = dict.fromkeys(("StudyDescription", "InstitutionName", "ReferringPhysicianName", "AccessionNumber"), PLANTED)
    films = tmp_path / "films"
    films.mkdir()
    whole = dicom(pixels, PatientSex="F", PatientAge="011Y", PatientBirthDate="20120101", **planted)
    (films / "1.dcm").write_bytes(whole)
    (films / "2.dcm").write_bytes(whole[:-999])
    (films / "3.dcm").write_bytes(dicom(pixels, Modality="MR", BodyPartExamined=PLANTED, **planted))
    (films / "4.dcm").write_bytes(dicom(pixels, BodyPartExamined=PLANTED, PatientAge=PLANTED, WindowWidth="1", **planted))
    done = forked.run(["-m", "baa.predict", films, "--checkpoint", checkpoint, "--out", tmp_path / "out"])

    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert done.returncode == 1, done.stderr
    assert read.error.notna().tolist() == [False, True, True, False]
    assert list(read.loc[0, ["sex", "sex_source", "age_months"]]) == ["female", "file", 132]
    assert read.ahead_months[0] == pytest.approx(read.bone_age_months[0] - 132)
    assert read.ahead_deviations[0] == pytest.approx(read.ahead_months[0] / 11.94, abs=0.05)
    written = [file.name + file.read_text(errors="replace") for file in (tmp_path / "out").rglob("*") if file.is_file()]
    for secret in ("SECRET", "20120101"):
        assert secret not in done.stdout + done.stderr + "".join(written)


def test_a_missing_file_is_refused_before_any_work(predict, checkpoint, tmp_path, capsys):
    assert predict("--checkpoint", checkpoint, tmp_path / "nothing.png", "--out", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert "nothing.png does not exist" in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_processes_share_the_files_and_the_last_one_writes_the_table(checkpoint, hands, tmp_path, monkeypatch):
    from baa import load_model
    from baa.inference import parts
    from baa.inference.inputs import InputFile
    from baa.patient import Sex

    monkeypatch.setattr(parts, "PART_ROWS", 2)
    files = [*sorted(hands.iterdir()), *[tmp_path / f"copy{i}.png" for i in range(4)]]
    for copy in files[3:]:
        copy.write_bytes(files[0].read_bytes())
    files[4].write_text("not an image")
    inputs = [InputFile(file, Sex.FEMALE) for file in files]

    def share(process, out):
        for name, value in {"RANK": process, "WORLD_SIZE": 2, "LOCAL_RANK": process, "TORCHELASTIC_RUN_ID": "x"}.items():
            monkeypatch.setenv(name, str(value))
        return model.predict_files(inputs, tmp_path / out, progress=False)

    model = load_model(checkpoint, device="cpu", batch_size=3)
    assert model.predict_files(inputs, tmp_path / "one", progress=False) == (7, 1)
    assert share(1, "two") == (7, None)
    assert not (tmp_path / "two" / "predictions.csv").exists()
    assert share(0, "two") == (7, 1)
    one, two = (pd.read_csv(tmp_path / out / "predictions.csv") for out in ("one", "two"))
    assert list(two.file) == list(map(str, files))
    pd.testing.assert_frame_equal(two, one, atol=0.11)  # other batches round differently

    written = sorted((tmp_path / "two" / "parts").glob("*/*.parquet"))
    kept = {part: part.stat().st_mtime_ns for part in written}
    written[2].unlink()  # a process was killed
    (tmp_path / "two" / "predictions.csv").unlink()
    assert share(1, "two") == (7, None)
    assert share(0, "two") == (7, 1)
    assert [part.stat().st_mtime_ns == kept[part] for part in written] == [True, True, False, True]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "two" / "predictions.csv"), one, atol=0.11)


def test_an_interrupted_prediction_exits_with_130(checkpoint, hands, tmp_path, monkeypatch):
    from baa import load_model
    from baa.inference import predict
    from baa.inference.inputs import InputFile
    from baa.patient import Sex

    monkeypatch.setattr(predict, "make_prediction", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    model = load_model(checkpoint, device="cpu")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as exit_:
        model.predict_files([InputFile(next(hands.iterdir()), Sex.MALE)], tmp_path, progress=False)
    assert exit_.value.code == 130
    assert signal.getsignal(signal.SIGINT) == before


def test_a_name_of_any_kind_is_a_row(predict, checkpoint, hands, tmp_path, monkeypatch, capsys):
    film = sorted(hands.iterdir())[0].read_bytes()
    for old in hands.iterdir():
        old.unlink()
    odd = [b"=HYPERLINK(1).png", b"-rf.png", b"@x.png", b"\xff\xfe.png", b"a\rb.png", b"c\x1b[2Jd.png", b"$\\frac{$.png"]
    odd += [b"x" * 251 + b".png", "\u00e4".encode() * 120 + b"1.png", "\u00e4".encode() * 120 + b"2.png"]
    for name in odd:
        (hands / os.fsdecode(name)).write_bytes(film)
    (hands / "loop.png").symlink_to(hands / "loop.png")
    (hands / "\x1b[2J.txt").write_text("no image")
    monkeypatch.chdir(hands)
    assert predict("--checkpoint", checkpoint, ".", "--out", tmp_path / "out", "--workers", 0) == 1

    written = (tmp_path / "out" / "predictions.csv").read_bytes()
    assert b"\r" not in written
    assert b"\x1b" not in written
    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert len(read) == len(odd) + 1
    assert read.error.dropna().tolist() == ["Too many levels of symbolic links"]
    assert not read.file.str.match("[=+@-]").any()
    assert {"./=HYPERLINK(1).png", "./-rf.png", "\\xff\\xfe.png", "a\\rb.png", "c\\x1b[2Jd.png"} < set(read.file)
    overlays = [file.name for file in (tmp_path / "out" / "overlays").iterdir()]
    assert len(overlays) == len(odd)
    assert max(len(name.encode()) for name in overlays) <= 255
    left_out = pd.read_csv(tmp_path / "out" / "left_out.csv")
    assert left_out.name.tolist() == ["\\x1b[2J.txt"]
    printed = capsys.readouterr()
    assert "\\x1b[2J.txt: neither the suffix" in printed.out
    assert "\x1b[2J" not in printed.out + printed.err


def test_a_missing_file_is_named_without_terminal_escapes(predict, checkpoint, tmp_path, capsys):
    assert predict("--checkpoint", checkpoint, tmp_path / "a\x1b[2J\r.png", "--out", tmp_path / "out") == 2
    assert "a\\x1b[2J\\r.png does not exist" in capsys.readouterr().err


KILLED = """
import os, runpy, signal, sys
from {module} import {owner}
{owner}.{method} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[:1] = ["baa.{command}"]
runpy.run_module("baa.{command}", run_name="__main__")
"""


def ends_with_one_line(code, *arguments):
    done = forked.run(["-W", "ignore", "-c", code, *arguments])
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("baa: ")]
    assert "Traceback" not in done.stderr
    assert "a process that reads radiographs failed: DataLoader worker" in line


def test_a_killed_loader_process_ends_a_prediction_with_one_line(checkpoint, hands, tmp_path):
    code = KILLED.format(module="baa.inference.files", owner="FileDataset", method="__getitem__", command="predict")
    ends_with_one_line(code, "--checkpoint", checkpoint, hands, "--out", tmp_path / "out", "--workers", 2)
    assert not (tmp_path / "out" / "predictions.csv").exists()


@pytest.mark.slow
def test_a_killed_loader_process_ends_a_training_with_one_line(tmp_path):
    code = KILLED.format(module="baa.data.batch", owner="RadiographDataset", method="__getitems__", command="fit")
    (tmp_path / "tiny.yaml").write_text("stages: [locator]\n")
    ends_with_one_line(code, "--config", tmp_path / "tiny.yaml", *settings(tmp_path, "data.workers=2"))
