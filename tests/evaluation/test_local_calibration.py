"""Local calibration: a bundle whose ages follow local readers, and which needs nothing of the one that it was made from."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from baa.checkpoints.load import load_model
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError
from baa.evaluation.local_calibration import calibrate_locally

HANDS = 40
IDS = [f"phantom-50-{i}" for i in range(HANDS)]


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Return a folder of films and a function that writes the table of readers whose ages a function makes of the model's."""
    folder = tmp_path_factory.mktemp("readers")
    cases = phantom_cases(HANDS, seed=50)
    for case in cases:
        Image.fromarray(case.image.load(96).pixels).save(folder / f"{case.id}.png")

    def write(name, months):
        given = [case for case in cases if case.id in months]
        rows = {"image": [f"{case.id}.png" for case in given], "age": [months[case.id] for case in given]}
        rows["sex"] = [case.sex.name.lower() for case in given]
        pd.DataFrame(rows).to_csv(folder / name, index=False)
        return ["data.source=table", f"data.table.file={folder / name}", f"data.root={folder}", f"data.cache={folder}/cache"]

    return write


def ages(model, tmp_path, settings):
    from baa.evaluation.checkpoint import evaluate

    evaluate(model, [*settings, "trainer.progress=false", "data.workers=0"], split="unseen", out=tmp_path)
    return pd.read_csv(tmp_path / "predictions.csv")


def test_a_calibrated_bundle_follows_the_readers_alone(finished, readers, tmp_path):
    bundle = tmp_path / "copy"
    shutil.copytree(finished[0] / "tiny" / "estimator" / "bundle", bundle)
    before = ages(load_model(bundle), tmp_path / "before", readers("any.csv", dict.fromkeys(IDS, 100.0)))
    older = before.predicted_months + np.random.default_rng(0).normal(9, 2, HANDS)
    settings = readers("older.csv", dict(zip(before.id, older, strict=True)))
    fit = calibrate_locally(
        load_model(bundle), bundle, [*settings, "trainer.progress=false", "data.workers=0"], tmp_path / "ours"
    )
    shutil.rmtree(bundle)
    after = ages(load_model(tmp_path / "ours"), tmp_path / "after", settings)

    assert fit.used
    assert fit.mae_after < fit.mae_before / 3
    assert (after.predicted_months - before.predicted_months).mean() == pytest.approx(9, abs=1.0)
    assert after.true_months.between(after.lower_months, after.upper_months).mean() >= 0.85
    assert (after.upper_months - after.lower_months).mean() < 14


def test_what_cannot_be_calibrated_is_refused(finished, readers, tmp_path):
    bundle = finished[0] / "tiny" / "estimator" / "bundle"
    model, settings = load_model(bundle), readers("few.csv", dict.fromkeys(IDS[:20], 100.0))
    with pytest.raises(InputError, match="--table: 20 radiographs have an age and a sex; give at least 30"):
        calibrate_locally(model, bundle, [*settings, "trainer.progress=false", "data.workers=0"], tmp_path / "few")
    with pytest.raises(InputError, match=r"best.ckpt is no bundle; give the folder bundle beside it"):
        calibrate_locally(model, bundle.parent / "best.ckpt", settings, tmp_path / "none")
    with pytest.raises(InputError, match="calibrated already; give the bundle that it was made from"):
        calibrate_locally(model._replace(lines={"male": [0.0, 1.0]}), bundle, settings, tmp_path / "twice")
