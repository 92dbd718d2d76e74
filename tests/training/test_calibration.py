"""A finished stage knows how far off it is, wherever it is kept, and says so of every age."""

import pandas as pd
import pytest


@pytest.mark.parametrize("stage", ["locator", "estimator"])
def test_checkpoint_and_bundle_hold_the_errors_on_the_validation_split(finished, stage):
    from baa.checkpoints.load import restore

    folder = finished[0] / "tiny" / stage
    kept, shared = restore(folder / "best.ckpt").calibration, restore(folder / "bundle").calibration
    assert kept == shared
    assert kept["all"] == sorted(kept["all"])
    assert len(kept["all"]) == 5


def test_the_errors_are_those_that_evaluation_finds(finished, tmp_path, monkeypatch):
    from baa.checkpoints.load import restore
    from baa.evaluation.checkpoint import evaluate
    from baa.training import verdict

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    monkeypatch.setattr(verdict, "COVERAGE", 0.8)
    metrics = evaluate(checkpoint, [], split="val", out=tmp_path)["estimator"]
    errors = restore(checkpoint).calibration["all"]
    assert sum(errors) / len(errors) == pytest.approx(metrics["val/mae"], abs=0.1)
    assert metrics["val/covered_80"] == 1  # the fifth of five errors

    read = pd.read_csv(tmp_path / "predictions.csv")
    assert (read.lower_months <= read.true_months + 0.1).all()
    assert (read.upper_months >= read.true_months - 0.1).all()


def test_a_wider_coverage_is_a_wider_interval_and_too_wide_a_one_is_none(finished, tmp_path):
    from PIL import Image

    from baa.data.sources.phantom.phantom import phantom_cases
    from baa.inference.inputs import Asked
    from baa.inference.predict import predict
    from baa.patient import Sex

    asked = []
    for case in phantom_cases(8, seed=0):
        Image.fromarray(case.image.load(160).pixels).save(tmp_path / f"{case.id}.png")
        asked.append(Asked(tmp_path / f"{case.id}.png", Sex.MALE))
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    widths = []
    for coverage in (0.5, 0.8, 0.9):
        predict(checkpoint, asked, tmp_path / "out", coverage=coverage, batch_size=8, workers=0, progress=False)
        table = pd.read_csv(tmp_path / "out" / "predictions.csv")
        widths.append(table.upper_months - table.lower_months)
    assert ((widths[0] > 0) & (widths[0] < widths[1])).all()
    assert widths[2].isna().all()
