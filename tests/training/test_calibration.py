"""A finished stage keeps its errors on the validation split and gives a prediction interval with each age."""

import pandas as pd
import pytest


@pytest.mark.parametrize("stage", ["locator", "estimator"])
def test_checkpoint_and_bundle_hold_the_errors_on_the_validation_split(finished, stage):
    from baa.checkpoints.load import load_model

    folder = finished[0] / "tiny" / stage
    kept, shared = load_model(folder / "best.ckpt").calibration, load_model(folder / "bundle").calibration
    assert kept == shared
    assert kept["all"] == sorted(kept["all"])
    assert len(kept["all"]) == 5


def test_the_errors_are_those_that_evaluation_finds(finished, tmp_path, monkeypatch):
    from baa.api import load_model as load_predictor
    from baa.checkpoints.load import load_model
    from baa.evaluation import split

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    monkeypatch.setattr(split, "COVERAGE", 0.8)
    metrics = load_predictor(checkpoint, device="cpu").evaluate(split="val", out=tmp_path)["estimator"]
    errors = load_model(checkpoint).calibration["all"]
    assert sum(errors) / len(errors) == pytest.approx(metrics["val/mae"], abs=0.1)
    assert metrics["val/covered_80"] == 1  # the fifth of five errors

    read = pd.read_csv(tmp_path / "predictions.csv")
    assert (read.lower_months <= read.true_months + 0.1).all()
    assert (read.upper_months >= read.true_months - 0.1).all()


def test_intervals_widen_with_the_coverage_and_are_absent_where_it_is_too_high(finished, tmp_path):
    from PIL import Image

    from baa.api import load_model
    from baa.data.sources.phantom import phantom_cases
    from baa.inference.inputs import InputFile
    from baa.patient import Sex

    inputs = []
    for case in phantom_cases(8, seed=0):
        Image.fromarray(case.image.load(160).pixels).save(tmp_path / f"{case.id}.png")
        inputs.append(InputFile(tmp_path / f"{case.id}.png", Sex.MALE))
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    widths = []
    for coverage in (0.5, 0.8, 0.9):
        load_model(checkpoint, device="cpu", coverage=coverage).predict_files(inputs, tmp_path / "out", progress=False)
        table = pd.read_csv(tmp_path / "out" / "predictions.csv")
        widths.append(table.upper_months - table.lower_months)
    assert ((widths[0] > 0) & (widths[0] < widths[1])).all()
    assert widths[2].isna().all()
