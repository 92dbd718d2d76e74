"""A finished run continues with more epochs where the learning rate is constant; other changes are refused."""

import json
import shutil

import pandas as pd
import pytest
import torch
from tiny_run import settings

from baa.errors import InputError

LOCATOR = ["stages=[locator]", "data.phantom.count=40", "locator.fit.lr=3e-3"]  # the last epoch is the best


def fit(folder, *more):
    from baa.config.load import load
    from baa.training.run import run

    return run(load([], settings(folder, *more)))


@pytest.fixture(scope="module")
def short(tmp_path_factory, brief_finish):
    """A finished locator of one epoch."""
    folder = tmp_path_factory.mktemp("short")
    return folder, fit(folder, *LOCATOR, "locator.fit.epochs=1")


@pytest.fixture
def again(short, tmp_path):
    """A copy of it to continue."""
    shutil.copytree(short[0] / "tiny", tmp_path / "tiny")
    return tmp_path


@pytest.fixture(scope="module")
def continued(short, tmp_path_factory):
    """Another copy, continued to two epochs, and its metrics."""
    folder = tmp_path_factory.mktemp("continued")
    shutil.copytree(short[0] / "tiny", folder / "tiny")
    return folder, fit(folder, *LOCATOR, "locator.fit.epochs=2")


def test_a_run_continued_with_more_epochs_equals_an_unbroken_one(continued, short, tmp_path):
    metrics = fit(tmp_path, *LOCATOR, "locator.fit.epochs=2")
    stages = [folder / "tiny" / "locator" for folder in (continued[0], tmp_path)]
    curves = [pd.read_csv(stage / "metrics.csv") for stage in stages]
    ends = [torch.load(stage / "last.ckpt", weights_only=True)["state_dict"] for stage in stages]

    assert curves[0].epoch.tolist() == [0, 1]
    pd.testing.assert_frame_equal(*curves)
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    assert continued[1] == metrics
    assert curves[0]["val/mae"].nunique() == 2
    assert json.loads((continued[0] / "tiny" / "metrics.json").read_text()) == metrics


@pytest.mark.parametrize("name", ["metrics.csv", "predictions.csv", "best.ckpt", "bundle/weights.safetensors"])
def test_a_file_of_a_finished_stage_that_was_cut_short_is_refused_and_trained_again(name, again):
    file = again / "tiny" / "locator" / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"locator/{name}: cut short or changed .*, or remove .*/locator to train this stage"):
        fit(again, *LOCATOR, "locator.fit.epochs=1")

    if name == "metrics.csv":
        shutil.rmtree(file.parent)
        fit(again, *LOCATOR, "locator.fit.epochs=1")
        assert file.read_bytes() == whole


def test_a_learning_curve_that_was_cut_short_is_whole_after_the_stage_finishes(again):
    curve = again / "tiny" / "locator" / "metrics.csv"
    whole = curve.read_text()
    (again / "tiny" / "metrics.json").unlink()  # as if it had been stopped after its last epoch
    curve.write_text(whole[:20])
    fit(again, *LOCATOR, "locator.fit.epochs=1")

    assert curve.read_text() == whole


def test_the_next_call_keeps_a_continued_run(continued):
    folder, metrics = continued
    written = (folder / "tiny" / "locator" / "best.ckpt").stat().st_mtime_ns

    assert fit(folder, *LOCATOR, "locator.fit.epochs=2") == metrics
    assert (folder / "tiny" / "locator" / "best.ckpt").stat().st_mtime_ns == written


def test_a_process_that_reads_the_old_metrics_trains_longer_too(again, monkeypatch, caplog):
    """Under torchrun the other processes may read metrics.json before the first one has removed the stage's result."""
    from baa.training import run_folder

    old = (again / "tiny" / "metrics.json").read_text()
    monkeypatch.setattr(run_folder, "write_atomic", lambda file, text: file.write_text(old if file.suffix == ".json" else text))
    caplog.set_level("INFO")
    fit(again, *LOCATOR, "locator.fit.epochs=2")

    assert "locator: trains longer, 2 epochs instead of 1" in caplog.text
    assert len(pd.read_csv(again / "tiny" / "locator" / "metrics.csv")) == 2


def test_fewer_epochs_are_refused(continued):
    with pytest.raises(
        InputError, match=r"tiny: locator\.fit\.epochs was 2 and can only increase, not to 1; give another name="
    ):
        fit(continued[0], *LOCATOR, "locator.fit.epochs=1")


@pytest.mark.parametrize(
    "schedule", ["locator.fit.schedule=onecycle", pytest.param("locator.fit.warmup=0.5", marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("brief_finish")
def test_a_schedule_over_all_epochs_is_refused_and_the_message_names_the_bundle_to_start_from(tmp_path, schedule):
    folder = tmp_path / "tiny"
    fit(tmp_path, *LOCATOR, schedule, "locator.fit.epochs=1")
    start = f"name=NEW stages=[locator] weights={folder}/locator/bundle"
    with pytest.raises(InputError, match="cannot increase from 1 to 2: ") as refusal:
        fit(tmp_path, *LOCATOR, schedule, "locator.fit.epochs=2")
    assert str(refusal.value).endswith(start)
    assert (folder / "locator" / "bundle" / "card.json").exists()


def test_more_epochs_of_a_stage_that_a_later_one_started_from_are_refused(finished):
    folder, metrics = finished
    with pytest.raises(InputError, match=r"started with locator\.fit\.epochs=2, now it is 3"):
        fit(folder, "locator.fit.epochs=3")
    assert json.loads((folder / "tiny" / "metrics.json").read_text()) == metrics


def test_more_epochs_together_with_another_setting_are_refused(again):
    with pytest.raises(InputError, match=r"now it is .* \(2 settings differ\)"):
        fit(again, *LOCATOR, "locator.fit.epochs=3", "locator.fit.lr=0.1")


@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        ("metrics.json", 0, "empty, cut short or no JSON object; restore it, or remove it to compute its content again"),
        ("metrics.json", 0.5, "empty, cut short or no JSON object; restore it, or remove it to compute its content again"),
        ("config.yaml", 0, "empty or cut short; restore it, or remove it to continue with the settings of this command"),
        ("config.yaml", 0.5, "empty or cut short; restore it, or remove it to continue with the settings of this command"),
        ("config.yaml", 0.99, "empty or cut short; restore it, or remove it to continue with the settings of this command"),
        ("cases.csv", 0, "empty, cut short or damaged; restore it, or remove it if the data are those of the run's start"),
        ("cases.csv", 0.5, "empty, cut short or damaged; restore it, or remove it if the data are those of the run's start"),
    ],
)
def test_an_empty_or_cut_file_of_a_run_is_named_with_the_mend(name, share, message, again):
    file = again / "tiny" / name
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError) as refusal:
        fit(again, *LOCATOR, "locator.fit.epochs=1")
    assert str(refusal.value) == f"{file}: {message}"


def test_the_mend_of_each_file_reaches_the_results_of_before(again, short):
    for name in ("metrics.json", "config.yaml", "cases.csv"):
        (again / "tiny" / name).unlink()

    assert fit(again, *LOCATOR, "locator.fit.epochs=1") == short[1]


@pytest.mark.parametrize("share", [None, 0, 0.5])
def test_a_lost_best_checkpoint_is_refused_before_training_with_the_mend(share, again):
    (again / "tiny" / "metrics.json").unlink()  # as before the end of its stage
    best = again / "tiny" / "locator" / "best.ckpt"
    content = best.read_bytes()
    best.unlink()
    if share is not None:
        best.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError) as refusal:
        fit(again, *LOCATOR, "locator.fit.epochs=1")
    mend = f"restore it, or remove {best.parent} to train this stage again"
    assert str(refusal.value) == f"{best}: lost or cut short, and the best epoch with it; {mend}"


@pytest.fixture
def rewritten(again):
    """Change the last checkpoint of a run that has not ended; return a function that continues the run."""
    (again / "tiny" / "metrics.json").unlink()
    file = again / "tiny" / "locator" / "last.ckpt"

    def change(edit):
        checkpoint = torch.load(file, weights_only=True)
        edit(checkpoint)
        torch.save(checkpoint, file)
        return fit(again, *LOCATOR, "locator.fit.epochs=1")

    return change


def test_a_checkpoint_of_other_networks_is_refused(rewritten):
    def narrow(checkpoint):
        for name, tensor in checkpoint["state_dict"].items():
            checkpoint["state_dict"][name] = tensor[:1] if tensor.ndim else tensor

    with pytest.raises(InputError, match=r"last\.ckpt: its networks differ \(locator\..*or give another name="):
        rewritten(narrow)


@pytest.mark.parametrize("part", ["state_dict", "loops", "optimizer_states"])
def test_a_checkpoint_without_the_state_of_a_training_is_skipped(part, rewritten, short, caplog):
    caplog.set_level("INFO")
    assert rewritten(lambda checkpoint: checkpoint.pop(part)) == short[1]
    assert f"last.ckpt: it has no {part}, so no training can be resumed from it" in caplog.text
    assert "resumes after epoch 1 of 1" in caplog.text  # from the best one
