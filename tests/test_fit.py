"""Runs on phantoms: train, resume, evaluate, refuse."""

import json
import sys

import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_run import settings


def evaluate(checkpoint, *overrides, **how):
    from baa.api import load_model

    return load_model(checkpoint, device="cpu").evaluate(overrides, **how)


def test_a_run_writes_the_files_that_its_help_lists(finished):
    folder, metrics = finished
    run = folder / "tiny"
    for stage in ("locator", "estimator"):
        files = {path.name for path in (run / stage).iterdir() if not path.name.endswith(".lock")}
        assert files == {
            "best.ckpt",
            "last.ckpt",
            "metrics.csv",
            "predictions.csv",
            "validation.csv",
            "cost.json",
            "finished.json",
            "ages.png",
            "heat_maps.png",
            "learning_curve.png",
            "bundle",
        }
        assert len(pd.read_csv(run / stage / "metrics.csv")) == 2
        assert torch.load(run / stage / "last.ckpt", weights_only=True)["epoch"] == 1
    assert json.loads((run / "metrics.json").read_text()) == metrics
    assert metrics["estimator"]["test/carpal_marked"] == metrics["estimator"]["test/cases"]


def test_the_predictions_on_disk_have_the_mae_that_is_reported(finished):
    folder, metrics = finished
    table = pd.read_csv(folder / "tiny" / "estimator" / "predictions.csv")

    assert len(table) == metrics["estimator"]["test/cases"]
    assert (table.predicted_months - table.true_months).abs().mean() == pytest.approx(
        metrics["estimator"]["test/mae"], abs=0.01
    )


def test_a_finished_run_is_not_trained_again(finished):
    from baa.config.load import load
    from baa.training.run import run

    folder, metrics = finished
    before = (folder / "tiny" / "locator" / "best.ckpt").stat().st_mtime_ns
    assert run(load([], settings(folder))) == metrics
    assert (folder / "tiny" / "locator" / "best.ckpt").stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(finished):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    with pytest.raises(InputError, match=r"started with locator.fit.lr=0.0003, now it is 0.1; give another name="):
        run(load([], settings(finished[0], "locator.fit.lr=0.1")))
    with pytest.raises(InputError, match=r"started with trainer.precision=32-true, now it is bf16-mixed"):
        run(load([], settings(finished[0], "trainer.precision=bf16-mixed")))
    # The stages that have begun count, not those asked for.
    with pytest.raises(InputError, match=r"data.split.seed=0, now it is 7"):
        run(load([], settings(finished[0], "data.split.seed=7", "stages=[joint]", "joint.start=pretrained")))


def test_a_second_job_in_a_folder_is_refused_and_a_killed_jobs_temporary_files_are_removed(finished, monkeypatch):
    from filelock import FileLock

    from baa.config.load import load
    from baa.errors import InputError
    from baa.training import run_folder
    from baa.training.run import run

    folder, metrics = finished
    left = folder / "tiny" / "locator" / ".last.0123abcd.new.ckpt"
    left.touch()
    monkeypatch.setattr(run_folder, "PATIENCE_SECONDS", 0.0)
    with FileLock(folder / "tiny" / ".lock"), pytest.raises(InputError, match="tiny: another process trains in it"):
        run(load([], settings(folder)))
    assert left.exists()
    assert run(load([], settings(folder))) == metrics
    assert not left.exists()


UNTRAINABLE = {
    "trainer.accelerator=gpu": "trainer.accelerator: gpu, but no GPU is available; give auto or cpu",
    "trainer.precision=16-mixed": "trainer.precision: 16-mixed needs a GPU, and this is a CPU; give bf16-mixed or auto",
    "data.phantom.count=3": r"data.split: \d of 3 cases in the split (train|val); give it at least 2",
}


@pytest.mark.parametrize(("setting", "message"), UNTRAINABLE.items())
def test_settings_that_cannot_be_trained_are_refused_before_training(tmp_path, monkeypatch, setting, message):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        run(load([], settings(tmp_path, setting)))


def test_cases_without_an_age_are_not_trained_on(tmp_path):
    from baa.config.load import load
    from baa.data.sources.phantom import phantom_cases
    from baa.errors import InputError
    from baa.training.run import run

    for i, case in enumerate(phantom_cases(20, seed=9)):
        Image.fromarray(case.image.load(96).pixels).save(tmp_path / f"{i}.png")
    pd.DataFrame({"file": [f"{i}.png" for i in range(20)]}).to_csv(tmp_path / "ours.csv", index=False)
    table = ["data.source=table", f"data.table.file={tmp_path}/ours.csv", "data.table.image=file", "data.table.sex=null"]
    with pytest.raises(InputError, match=r"cases of the split train have no age, such as \d+; name the column of ages"):
        run(load([], settings(tmp_path, *table, "data.table.months=null")))


def test_equal_ages_are_refused_before_training(tmp_path):
    from baa.config.load import load
    from baa.data.sources.phantom import phantom_cases
    from baa.errors import InputError
    from baa.training.run import run

    for i, case in enumerate(phantom_cases(20, seed=9)):
        Image.fromarray(case.image.load(96).pixels).save(tmp_path / f"{i}.png")
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(20)], "age": 120, "split": ["train"] * 12 + ["val", "test"] * 4})
    table.loc[12:, "age"] = range(8)
    table.to_csv(tmp_path / "ours.csv", index=False)
    columns = ["data.table.image=file", "data.table.sex=null", "data.table.split=split", "data.split.by=source"]
    with pytest.raises(
        InputError, match="data: all 12 cases of the split train have the age 120 months, so there is nothing to"
    ):
        run(load([], settings(tmp_path, "data.source=table", f"data.table.file={tmp_path}/ours.csv", *columns)))


def test_a_loss_that_is_not_finite_stops_the_run_and_its_epoch_is_not_kept(tmp_path):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    with pytest.raises(InputError, match="the validation MAE is not finite after epoch 1; lower locator.fit.lr"):
        run(load([], settings(tmp_path, "stages=[locator]", "locator.fit.lr=1e30")))
    assert not list((tmp_path / "tiny" / "locator").glob("*.ckpt"))


@pytest.mark.parametrize("resplit", [False, True])
def test_evaluation_cases_that_a_source_model_was_trained_on_are_logged(finished, tmp_path, caplog, resplit):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    caplog.set_level("INFO")
    given = ["stages=[estimator]", f"locator.checkpoint={finished[0]}/tiny/locator/best.ckpt", "estimator.hand.weights=nowhere"]
    with pytest.raises(InputError, match="nowhere does not exist"):
        run(load([], settings(tmp_path, *given, f"data.split.seed={5 if resplit else 0}")))
    for split in ("val", "test"):
        assert (f"{split} cases were trained or chosen on by a source model" in caplog.text) == resplit


@pytest.mark.usefixtures("brief_finish")
def test_a_setting_that_stopped_a_run_before_its_first_epoch_can_be_corrected(tmp_path):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    short = ["data.phantom.count=40", "locator.fit.epochs=1", "estimator.fit.epochs=1", "crops.precision=auto"]
    for broken in ("locator.backbone.weights", "estimator.hand.weights"):
        with pytest.raises(InputError, match="nowhere.pth does not exist"):
            run(load([], settings(tmp_path, *short, f"{broken}={tmp_path / 'nowhere.pth'}")))
    assert run(load([], settings(tmp_path, *short))).keys() == {"locator", "estimator"}


def test_a_copied_checkpoint_gives_the_same_metrics(finished, tmp_path):
    folder, metrics = finished
    alone = tmp_path / "only.ckpt"
    alone.write_bytes((folder / "tiny" / "estimator" / "best.ckpt").read_bytes())
    evaluated = evaluate(alone, split="test", out=tmp_path / "out")

    more = evaluated["estimator"].keys() - metrics["estimator"].keys()
    assert {"test/covered_50", "test/interval_80_months"} < more
    assert any(name.startswith("fusion/") for name in more)
    for name, value in metrics["estimator"].items():
        assert evaluated["estimator"][name] == pytest.approx(value), name


def test_predictions_without_a_common_case_are_refused_before_the_evaluation(finished, tmp_path, monkeypatch):
    from baa.errors import InputError
    from baa.evaluation import checkpoint as evaluation

    monkeypatch.setattr(evaluation, "evaluate_split", lambda *_, **__: pytest.fail("evaluated"))
    (tmp_path / "theirs.csv").write_text("id,true_months,predicted_months\nx,1,2\ny,1,2\n")
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    with pytest.raises(InputError, match="--against: 0 cases in common; give predictions of at least 2 of the evaluated cases"):
        evaluate(checkpoint, split="test", out=tmp_path, against=tmp_path / "theirs.csv")


def test_an_evaluation_takes_no_other_network(finished, tmp_path):
    from baa.errors import InputError

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    with pytest.raises(
        InputError, match=r"estimator.hidden=8: a trained network has a fixed value; these can change: estimator.flip_average"
    ):
        evaluate(checkpoint, "estimator.hidden=8", split="test", out=tmp_path)
    once = evaluate(checkpoint, "estimator.flip_average=false", split="test", out=tmp_path)["estimator"]
    assert once["test/mae"] != finished[1]["estimator"]["test/mae"]


def test_a_single_case_can_be_evaluated(finished, tmp_path):
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    metrics = evaluate(checkpoint, "data.limit=1", split="test", out=tmp_path)["estimator"]
    assert "test/mae" not in metrics
    assert "test/carpal_iou" in metrics
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 1


def test_unseen_cases_are_those_of_no_training(finished, tmp_path):
    folder, metrics = finished
    checkpoint = folder / "tiny" / "locator" / "best.ckpt"
    evaluated = evaluate(checkpoint, "data.phantom.count=70", split="unseen", out=tmp_path, compare=True)

    assert evaluated["locator"]["unseen/cases"] == metrics["locator"]["test/cases"] + 10
    assert len(json.loads((tmp_path / "readings.json").read_text())) == 12  # a regression has no heat map of a class


def test_the_locator_is_frozen_while_the_estimator_learns(finished):
    run = finished[0] / "tiny"
    located = torch.load(run / "locator" / "best.ckpt", weights_only=True)["state_dict"]
    carried = torch.load(run / "estimator" / "last.ckpt", weights_only=True)["CropDataModule"]["locator"]

    assert carried
    for name, tensor in carried.items():
        assert torch.equal(tensor, located[f"locator.{name}"])


def test_every_problem_of_a_bad_folder_is_reported(tmp_path, monkeypatch, capsys):
    from baa.cli import run_command
    from baa.fit import main

    table = "1,60,True\n2,60,True\n3,60,True\n4,abc,True\n5,60,True\n5,61,True\n6,60,False\n"
    (tmp_path / "boneage-training-dataset.csv").write_text("id,boneage,male\n" + table)
    for id_ in (1, 4, 5, 6):
        Image.effect_noise((64, 80), 50).save(tmp_path / f"{id_}.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.png").write_text("not a radiograph")
    (tmp_path / "tiny.yaml").write_text("stages: [locator]\n")
    arguments = ["--config", str(tmp_path / "tiny.yaml"), *settings(tmp_path, "data.source=rsna", f"data.root={tmp_path}")]
    monkeypatch.setattr(sys, "argv", ["baa.fit", *arguments])
    with pytest.raises(SystemExit) as exit_:
        run_command(main)
    output = capsys.readouterr().err

    assert exit_.value.code == 2, output
    rows = ("its image 3.* is missing", "'abc' is not a number", "id is listed 2 times")
    for problem in ("1.png: ", "2.png: not an image", *rows):
        assert problem in output, output
    assert len(pd.read_csv(tmp_path / "tiny" / "refused.csv")) == 6  # both rows of the duplicate


@pytest.mark.usefixtures("brief_finish")
def test_a_run_trains_on_a_parquet_table_and_skips_its_bad_rows(tmp_path, decoded_apart):
    from baa.config.load import load
    from baa.data.sources.phantom import phantom_cases
    from baa.training.run import run

    hands = phantom_cases(40, seed=9)
    for i, case in enumerate(hands):
        Image.fromarray(case.image.load(96).pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_text("not a radiograph")
    years = [case.months / 12 for case in hands]
    years[5] = -1.0
    table = pd.DataFrame({"file": [f"{i}.png" for i in range(40)], "years": years, "sex": [c.sex.name.lower() for c in hands]})
    table.to_parquet(tmp_path / "ours.parquet")
    columns = ["data.table.image=file", "data.table.months=years", "data.table.age_unit=years"]
    place = ["data.source=table", f"data.table.file={tmp_path}/ours.parquet", f"data.root={tmp_path}", "data.on_bad=skip"]
    run(load([], settings(tmp_path, *place, *columns, "stages=[locator]", "locator.fit.epochs=1")))

    assert set(decoded_apart) == {(tmp_path / f"{i}.png").read_bytes() for i in range(40) if i != 5}
    skipped = pd.read_csv(tmp_path / "tiny" / "skipped.csv")
    assert set(skipped.id.astype(str)) == {"3", "5"}
    no_image = "not an image in PNG, JPEG, TIFF, WebP, BMP or DICOM"
    assert set(skipped.reason) == {no_image, "age '-1.0' is outside 0 to 240 months"}
    predictions = pd.read_csv(tmp_path / "tiny" / "locator" / "predictions.csv")
    assert predictions.true_months.between(6, 222).all()
