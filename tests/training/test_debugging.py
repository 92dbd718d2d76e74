"""Short runs to debug with, by Lightning's names: they touch few batches, and a trial of all stages leaves nothing."""

import pandas as pd
import pytest
import torch
from tiny_run import settings

FEW = ["stages=[locator]", "data.phantom.count=80", "locator.fit.batch_size=4", "locator.fit.epochs=2"]


def fit(folder, *more):
    from baa.config.load import load
    from baa.training.run import run

    return run(load([], settings(folder, *more)))


@pytest.fixture
def seen(monkeypatch):
    """The cases of each training batch and of each validation batch, in the order in which they are seen."""
    from baa.modules.locator import LocatorModule

    batches = {"training_step": [], "validation_step": []}
    for name, kept in batches.items():
        step = getattr(LocatorModule, name)

        def keep(self, batch, *more, step=step, kept=kept):
            kept.append(batch.case.tolist())
            return step(self, batch, *more)

        monkeypatch.setattr(LocatorModule, name, keep)
    return batches


def test_limits_of_batches_hold_for_training_validation_and_test(brief_finish, seen, tmp_path):
    limits = ("trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")
    metrics = fit(tmp_path, *FEW, *limits)
    assert (len(seen["training_step"]), len(seen["validation_step"])) == (6, 2)
    assert metrics["locator"]["test/cases"] == 4
    assert len(pd.read_csv(tmp_path / "tiny/locator/validation.csv")) > 4  # intervals are calibrated on all validation cases


def test_overfit_batches_trains_each_epoch_on_the_same_cases(brief_finish, seen, tmp_path):
    fit(tmp_path, *FEW, "trainer.overfit_batches=2")
    assert seen["training_step"] == [list(range(4)), list(range(4, 8))] * 2
    assert len(seen["validation_step"]) == 4


def test_a_fast_dev_run_tries_all_stages_and_keeps_nothing(brief_finish, tmp_path, caplog, monkeypatch):
    from baa.config.load import load
    from baa.training import run as module

    caplog.set_level("INFO")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    stages = []
    original = module._run_stage
    monkeypatch.setattr(module, "_run_stage", lambda stage, *rest: stages.append(stage) or original(stage, *rest))
    config = load([], settings(tmp_path, "trainer.fast_dev_run=true", "estimator.fit.schedule=onecycle"))

    assert module.run(config) == {}
    assert stages == ["locator", "estimator"]
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]
    assert "locator and estimator work; nothing was kept" in caplog.text


def test_a_resumed_run_adds_to_its_cost():
    from baa.runtime.cost import Cost

    first = Cost()
    while first.spent()["core_seconds"] == 0:
        torch.rand(100, 100).inverse()
    second = Cost()
    second.load_state_dict({"core_seconds": 5.0, "seconds": 7.0})
    assert second.state_dict()["core_seconds"] >= 5.0
    assert 7.0 <= second.state_dict()["seconds"] < 8.0
