"""The commands on phantoms: train, resume, judge, refuse."""

import json

import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_run import command, settings


def test_a_run_leaves_what_it_promises(finished):
    folder, metrics = finished
    run = folder / "tiny"
    for stage in ("locator", "estimator"):
        files = {path.name for path in (run / stage).iterdir() if not path.name.endswith(".lock")}
        assert files == {
            "best.ckpt",
            "last.ckpt",
            "metrics.csv",
            "predictions.csv",
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
    assert run(load(None, settings(folder))) == metrics
    assert (folder / "tiny" / "locator" / "best.ckpt").stat().st_mtime_ns == before


def test_other_settings_in_the_same_folder_are_refused(finished):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    with pytest.raises(InputError, match=r"locator.fit.lr was 0.0003 and is 0.1"):
        run(load(None, settings(finished[0], "locator.fit.lr=0.1")))
    with pytest.raises(InputError, match=r"trainer.precision was 32-true and is bf16-mixed"):
        run(load(None, settings(finished[0], "trainer.precision=bf16-mixed")))
    with pytest.raises(
        InputError, match=r"data.split.seed was 0 and is 7"
    ):  # of the stages that are there, not of those asked for
        run(load(None, settings(finished[0], "data.split.seed=7", "stages=[joint]", "joint.start=pretrained")))


def test_two_jobs_in_one_folder_are_kept_apart_and_what_a_killed_one_left_is_removed(finished, monkeypatch):
    from filelock import FileLock

    from baa.config.load import load
    from baa.errors import InputError
    from baa.training import claim
    from baa.training.run import run

    folder, metrics = finished
    left = folder / "tiny" / "locator" / ".last.0123abcd.new.ckpt"
    left.touch()
    monkeypatch.setattr(claim, "PATIENCE_SECONDS", 0.0)
    with FileLock(folder / "tiny" / ".lock"), pytest.raises(InputError, match="tiny: another process trains in it"):
        run(load(None, settings(folder)))
    assert left.exists()
    assert run(load(None, settings(folder))) == metrics
    assert not left.exists()


UNTRAINABLE = {
    "trainer.accelerator=gpu": "trainer.accelerator is gpu; torch sees none here",
    "trainer.precision=16-mixed": "trainer.precision is 16-mixed, which needs a GPU",
    "data.phantom.count=3": r"data.split leaves \d of 3 cases to (train|val), fewer than 2",
}


@pytest.mark.parametrize(("setting", "message"), UNTRAINABLE.items())
def test_what_cannot_be_trained_is_refused_before_it_begins(tmp_path, monkeypatch, setting, message):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        run(load(None, settings(tmp_path, setting)))


def test_cases_without_an_age_are_not_trained_on(tmp_path):
    from baa.config.load import load
    from baa.data.sources.phantom.phantom import phantom_cases
    from baa.errors import InputError
    from baa.training.run import run

    for i, case in enumerate(phantom_cases(20, seed=9)):
        Image.fromarray(case.image.load(96).pixels).save(tmp_path / f"{i}.png")
    pd.DataFrame({"file": [f"{i}.png" for i in range(20)]}).to_csv(tmp_path / "ours.csv", index=False)
    table = ["data.source=table", f"data.table.file={tmp_path}/ours.csv", "data.table.image=file", "data.table.sex=null"]
    with pytest.raises(InputError, match=r"cases of train have no age, such as \d+; data.table.months names the column"):
        run(load(None, settings(tmp_path, *table, "data.table.months=null")))


def test_a_fit_that_ends_in_no_numbers_stops_the_run_and_is_not_kept(tmp_path):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    with pytest.raises(InputError, match="the network answers with no numbers after epoch 1; give a lower fit.lr"):
        run(load(None, settings(tmp_path, "stages=[locator]", "locator.fit.lr=1e30")))
    assert not list((tmp_path / "tiny" / "locator").glob("*.ckpt"))


@pytest.mark.parametrize("resplit", [False, True])
def test_cases_to_choose_and_to_judge_by_that_were_trained_on_before_are_told(finished, tmp_path, caplog, resplit):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    caplog.set_level("INFO")
    given = ["stages=[estimator]", f"locator.checkpoint={finished[0]}/tiny/locator/best.ckpt", "estimator.hand.weights=nowhere"]
    with pytest.raises(InputError, match="nowhere is not a file"):
        run(load(None, settings(tmp_path, *given, f"data.split.seed={5 if resplit else 0}")))
    for split in ("val", "test"):
        assert (f"{split} cases were trained or chosen on by what this run starts from" in caplog.text) == resplit


def test_a_setting_that_stopped_a_run_before_its_first_epoch_can_be_mended(tmp_path):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    short = ["locator.fit.epochs=1", "estimator.fit.epochs=1", "crops.precision=auto"]
    for broken in ("locator.backbone.weights", "estimator.hand.weights"):
        with pytest.raises(InputError, match="nowhere.pth is not a file"):
            run(load(None, settings(tmp_path, *short, f"{broken}={tmp_path / 'nowhere.pth'}")))
    assert run(load(None, settings(tmp_path, *short))).keys() == {"locator", "estimator"}


def test_the_checkpoint_alone_gives_the_same_metrics(finished, tmp_path):
    from baa.evaluation.checkpoint import evaluate

    folder, metrics = finished
    alone = tmp_path / "only.ckpt"
    alone.write_bytes((folder / "tiny" / "estimator" / "best.ckpt").read_bytes())
    judged = evaluate(alone, [], split="test", out=tmp_path / "out")

    more = judged["estimator"].keys() - metrics["estimator"].keys()
    assert {"test/covered_50", "test/interval_80_months"} < more
    assert any(name.startswith("fusion/") for name in more)
    for name, value in metrics["estimator"].items():
        assert judged["estimator"][name] == pytest.approx(value), name


def test_what_cannot_be_compared_is_refused_before_it_is_judged(finished, tmp_path, monkeypatch):
    from baa.errors import InputError
    from baa.inference import evaluation

    monkeypatch.setattr(evaluation, "judge", lambda *_, **__: pytest.fail("judged"))
    (tmp_path / "theirs.csv").write_text("id,true_months,predicted_months\nx,1,2\ny,1,2\n")
    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    with pytest.raises(InputError, match="--against: these predictions have 0 cases in common with ours"):
        evaluation.evaluate(checkpoint, [], split="test", out=tmp_path, against=tmp_path / "theirs.csv")


def test_an_evaluation_takes_no_other_network(finished, tmp_path):
    from baa.errors import InputError
    from baa.evaluation.checkpoint import evaluate

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    with pytest.raises(
        InputError, match=r"estimator.hidden=8: a trained network keeps its own; what may change of it: estimator.flip"
    ):
        evaluate(checkpoint, ["estimator.hidden=8"], split="test", out=tmp_path)
    once = evaluate(checkpoint, ["estimator.flip_average=false"], split="test", out=tmp_path)["estimator"]
    assert once["test/mae"] != finished[1]["estimator"]["test/mae"]


def test_a_single_case_is_judged_too(finished, tmp_path):
    from baa.evaluation.checkpoint import evaluate

    checkpoint = finished[0] / "tiny" / "estimator" / "best.ckpt"
    judged = evaluate(checkpoint, ["data.limit=1"], split="test", out=tmp_path)["estimator"]
    assert "test/mae" not in judged
    assert "test/carpal_iou" in judged
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 1


def test_unseen_cases_are_those_of_no_training(finished, tmp_path):
    from baa.evaluation.checkpoint import evaluate

    folder, metrics = finished
    checkpoint = folder / "tiny" / "locator" / "best.ckpt"
    judged = evaluate(checkpoint, ["data.phantom.count=70"], split="unseen", out=tmp_path, compare=True)

    assert judged["locator"]["unseen/cases"] == metrics["locator"]["test/cases"] + 10
    assert len(json.loads((tmp_path / "readings.json").read_text())) == 6  # a regression has no class reading


def test_the_locator_is_frozen_while_the_estimator_learns(finished):
    run = finished[0] / "tiny"
    located = torch.load(run / "locator" / "best.ckpt", weights_only=True)["state_dict"]
    carried = torch.load(run / "estimator" / "last.ckpt", weights_only=True)["CropDataModule"]["weights"]

    assert carried
    for name, tensor in carried.items():
        assert torch.equal(tensor, located[name.replace("locator.", "net.", 1)])


def test_a_bad_folder_is_reported_whole(tmp_path):
    rows = "1,60,True\n2,60,True\n3,60,True\n4,abc,True\n5,60,True\n5,61,True\n6,60,False\n"
    (tmp_path / "boneage-training-dataset.csv").write_text("id,boneage,male\n" + rows)
    for id_ in (1, 4, 5, 6):
        Image.effect_noise((64, 80), 50).save(tmp_path / f"{id_}.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.png").write_text("not a radiograph")
    process = command(tmp_path, "data.source=rsna", f"data.root={tmp_path}")
    output = process.communicate(timeout=300)[0]

    assert process.returncode == 2, output
    assert "Traceback" not in output
    for named in ("1.png: ", "2.png: not an image", "its image 3.* is missing", "'abc' is not a number", "id stands 2 times"):
        assert named in output, output
    assert len(pd.read_csv(tmp_path / "tiny" / "refused.csv")) == 6  # both rows of the duplicate


def test_a_hospitals_parquet_is_trained_on_and_its_bad_rows_are_set_aside(tmp_path):
    from baa.config.load import load
    from baa.data.sources.phantom.phantom import phantom_cases
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
    run(load(None, settings(tmp_path, *place, *columns, "stages=[locator]", "locator.fit.epochs=1")))

    skipped = pd.read_csv(tmp_path / "tiny" / "skipped.csv")
    assert set(skipped.id.astype(str)) == {"3", "5"}
    assert set(skipped.reason) == {"not an image in PNG, JPEG, TIFF or DICOM", "age '-1.0' is outside 0 to 240 months"}
    judged = pd.read_csv(tmp_path / "tiny" / "locator" / "predictions.csv")
    assert judged.true_months.between(6, 222).all()
