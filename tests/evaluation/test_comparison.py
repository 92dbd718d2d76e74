"""Runs side by side: what differs, what it cost, whether the difference is real; and the folds of a cross-validation as one."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

from baa.errors import InputError
from baa.evaluation.comparison import compare
from baa.metrics.out_of_fold import out_of_fold


def predictions(ids, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    true = np.array([30.0 + 3 * (int(id_) % 60) for id_ in ids])
    predicted = (true + rng.normal(0, 5, len(ids)) + offset).round(2)
    sex = ["female" if int(id_) % 3 else "male" for id_ in ids]
    return pd.DataFrame({"id": list(map(str, ids)), "sex": sex, "true_months": true, "predicted_months": predicted})


@pytest.fixture
def make_run(tmp_path):
    """Write the files of a finished run, as `baa.fit` does."""
    from baa.config.load import load, to_yaml

    def make(name, *settings, offset=0.0, tested=range(60), validated=range(60, 90), hours=0.5):
        folder = tmp_path / "runs" / name
        stage = folder / "locator"
        stage.mkdir(parents=True)
        config = load([], [f"name={name}", f"runs={tmp_path}/runs", "stages=[locator]", "data.source=phantom", *settings])
        (folder / "config.yaml").write_text(to_yaml(config))
        table = predictions(tested, offset)
        mae = float((table.predicted_months - table.true_months).abs().mean())
        metrics = {"test/cases": len(table), "test/mae": mae, "test/mae_ci": [mae - 1, mae + 1], "test/covered_90": 0.9}
        (folder / "metrics.json").write_text(json.dumps({"locator": metrics}))
        (stage / "cost.json").write_text(json.dumps({"core_hours": hours, "hours": hours / 2}))
        pd.DataFrame({"epoch": [0, 1], "val/mae": [20.0, 9.0]}).to_csv(stage / "metrics.csv", index=False)
        table.to_csv(stage / "predictions.csv", index=False)
        predictions(validated, seed=1).to_csv(stage / "validation.csv", index=False)
        return folder

    return make


def test_the_table_has_metrics_cost_differing_settings_and_paired_differences(make_run, tmp_path):
    runs = [
        make_run("first", "locator.fit.lr=1e-3"),
        make_run("older", "locator.fit.lr=2e-3", offset=20.0, hours=2.0),
        make_run("others", "locator.fit.lr=1e-3", tested=range(1000, 1060)),
    ]
    table, metrics = compare(runs, tmp_path / "out")
    first, older, others = pd.read_csv(tmp_path / "out" / "runs.csv").to_dict("records")

    assert [first["run"], older["run"], others["run"]] == ["first", "older", "others"]
    assert (first["locator.fit.lr"], older["locator.fit.lr"]) == (0.001, 0.002)
    assert [name for name in table if "." in name] == ["locator.fit.lr"]  # not the name
    assert list(table)[-1] == "locator.fit.lr"
    assert (first["core_hours"], older["core_hours"], first["best_val_mae"]) == (0.5, 2.0, 9.0)
    assert older["paired_cases"] == 60
    assert older["mae_difference"] == pytest.approx(older["mae"] - first["mae"])
    assert older["difference_low"] > 10
    assert np.isnan(first["mae_difference"])
    assert np.isnan(others["mae_difference"])
    assert metrics == {}
    assert not (tmp_path / "out" / "out_of_fold.csv").exists()


def test_the_page_shows_the_table_and_loads_nothing(make_run, tmp_path):
    make_run("<b>bold", "locator.fit.lr=1e-3")
    make_run("plain", "locator.fit.lr=2e-3", offset=3.0)
    compare([tmp_path / "runs"], tmp_path / "out")
    page = (tmp_path / "out" / "compare.html").read_text()

    assert "<b>bold" not in page
    assert "locator.fit.lr" in page
    assert len(re.findall('src="data:image/png;base64,', page)) == 3  # errors, differences, learning curves
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)


def test_a_missing_fold_is_named(make_run, tmp_path, caplog):
    caplog.set_level("INFO")
    for fold in (0, 2):
        make_run(f"fold{fold}", "data.split.folds=3", f"data.split.fold={fold}")
    compare([tmp_path / "runs"], tmp_path / "out")

    assert "no out-of-fold predictions: of 3 folds, 1 have no finished run" in caplog.text
    assert not (tmp_path / "out" / "out_of_fold.csv").exists()


def test_all_folds_of_a_cross_validation_give_one_table_of_all_cases(make_run, tmp_path):
    for fold in range(3):
        validated = range(200 + 60 * fold, 260 + 60 * fold)
        make_run(f"fold{fold}", "data.split.folds=3", f"data.split.fold={fold}", validated=validated)
    _, metrics = compare([tmp_path / "runs"], tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "out_of_fold.csv")

    assert table.id.tolist() == list(range(200, 380))
    assert table.fold.value_counts().to_dict() == {0: 60, 1: 60, 2: 60}
    error = (table.predicted_months - table.true_months).abs().mean()
    assert metrics["out_of_fold/mae"] == pytest.approx(error, abs=1e-4)
    low, high = metrics["out_of_fold/mae_ci"]
    assert low < error < high
    inside = table.true_months.between(table.lower_months, table.upper_months).mean()
    assert metrics["out_of_fold/covered_90"] == pytest.approx(inside, abs=0.01)
    assert 0.8 < inside < 1
    assert json.loads((tmp_path / "out" / "out_of_fold.json").read_text()) == metrics
    assert "MAE " in (tmp_path / "out" / "compare.html").read_text()


def test_folds_that_are_missing_or_differ_in_their_seed_are_not_joined(make_run, tmp_path):
    runs = [make_run(f"fold{fold}", "data.split.folds=3", f"data.split.fold={fold}") for fold in (0, 1)]
    assert compare(runs, tmp_path / "out")[1] == {}
    other = make_run("fold2", "data.split.folds=3", "data.split.fold=2", "data.split.seed=1", validated=range(300, 330))
    assert compare([*runs, other], tmp_path / "out")[1] == {}


def test_the_interval_of_a_case_does_not_depend_on_the_errors_of_its_fold():
    tables = {fold: predictions(range(60 * fold, 60 + 60 * fold), seed=fold).set_index("id") for fold in range(3)}
    before, _ = out_of_fold(tables)
    tables[0]["predicted_months"] += 0.5 * (tables[0]["predicted_months"] - tables[0]["true_months"])  # larger errors
    after, _ = out_of_fold(tables)
    width = [table.upper_months - table.lower_months for table in (before, after)]
    inner = (after.lower_months > 0) & (before.lower_months > 0) & (after.upper_months < 240) & (before.upper_months < 240)
    own = (before.fold == 0) & inner

    np.testing.assert_allclose(width[0][own], width[1][own], atol=0.02)
    assert (width[1] - width[0])[~own & inner].max() > 0.1
    with pytest.raises(InputError, match="60 is in two folds; give the runs of one cross-validation"):
        out_of_fold({0: tables[1], 1: tables[1]})


def test_the_trials_of_a_sweep_are_found_beside_its_folder(make_run, tmp_path):
    make_run("fusion/abc", "locator.fit.lr=1e-3")
    make_run("fusion/def", "locator.fit.lr=2e-3")
    (tmp_path / "runs" / "sweep-fusion").mkdir()
    pd.DataFrame({"trial": [1, 0], "run": ["def", "abc"]}).to_csv(tmp_path / "runs/sweep-fusion/trials.csv", index=False)
    table, _ = compare([tmp_path / "runs" / "sweep-fusion"], tmp_path / "out")
    assert table.run.tolist() == ["def", "abc"]


def test_an_unfinished_run_is_left_out_and_none_at_all_refused(make_run, tmp_path):
    (make_run("begun") / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"runs/begun: no finished run; give runs/NAME, a folder of runs, or"):
        compare([tmp_path / "runs" / "begun"], tmp_path / "out")
    make_run("done")
    assert compare([tmp_path / "runs"], tmp_path / "out")[0].run.tolist() == ["done"]


def test_the_command_compares_a_run_that_was_trained(finished, tmp_path, monkeypatch, capsys):
    from baa.compare import main

    folder, metrics = finished
    monkeypatch.setattr(sys, "argv", ["baa.compare", str(folder / "tiny"), "--out", str(tmp_path)])
    main()
    [row] = pd.read_csv(tmp_path / "runs.csv").to_dict("records")
    assert row["mae"] == pytest.approx(metrics["estimator"]["test/mae"])
    assert 0 < row["core_hours"] < 1
    assert "written to" in capsys.readouterr().out
    validated = pd.read_csv(folder / "tiny" / "estimator" / "validation.csv")
    assert "lower_months" not in validated
    cases = pd.read_csv(folder / "tiny" / "cases.csv", dtype={"id": str})
    assert set(validated.id) == set(cases.id[cases.split == "val"])
