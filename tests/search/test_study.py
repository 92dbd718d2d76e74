"""A sweep without W&B: trials are real runs, and a kill loses at most an epoch of one."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml
from tiny_run import settings

from baa.errors import InputError


@pytest.fixture
def sweep_file(tmp_path, finished):
    """A small search over the fusion weights, on the locator of a finished run, in the folder where it is written."""
    folder, _ = finished
    (tmp_path / "tiny.yaml").write_text("stages: [estimator]\n")
    shared = [setting.partition("=")[::2] for setting in settings(tmp_path)]
    parameters = {name: {"value": value} for name, value in shared}
    parameters["name"] = {"value": "tried/${oc.env:WANDB_RUN_ID}"}
    parameters["locator.checkpoint"] = {"value": str(folder / "tiny" / "locator" / "best.ckpt")}
    parameters["estimator.fusion.exchange"] = {"min": 0.0, "max": 1.0}
    parameters["estimator.fusion.alpha_learnt"] = {"values": [True, False]}
    content = {
        "method": "bayes",
        "metric": {"name": "val/mae", "goal": "minimize"},
        "command": ["${interpreter}", "-m", "baa.fit", "--config", str(tmp_path / "tiny.yaml"), "${args_no_hyphens}"],
        "parameters": parameters,
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "sweep.yaml"


def begin(file, count, *more):
    arguments = [sys.executable, "-m", "baa.sweep", str(file), "--count", str(count), "--out", str(file.parent / "out"), *more]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    assert condition()


def processes(word):
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if word in line and "baa.fit" in line]


def run_of(file, number):
    """The folder of a trial's run, once it has said which."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(file.parent / "out" / "trials.journal")))
    return file.parent / "tried" / storage.get_all_trials(0)[number].user_attrs["run"]


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_trial_behind_and_goes_on_with_it(sweep_file):
    killed = begin(sweep_file, 3, "estimator.fit.epochs=6")
    log = sweep_file.parent / "out" / "trial-001.log"
    wait_for(log.exists)
    wait_for((run_of(sweep_file, 1) / "estimator" / "last.ckpt").exists)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(1)
    assert not processes(str(sweep_file.parent))

    going_on = begin(sweep_file, 3, "estimator.fit.epochs=6")
    said = going_on.communicate(timeout=240)[0]
    assert going_on.returncode == 0, said
    assert "estimator: resumes after epoch" in log.read_text()
    table = pd.read_csv(sweep_file.parent / "out" / "trials.csv")
    assert sorted(table["trial"]) == [0, 1, 2]
    assert set(table["state"]) == {"complete"}
    assert table["val/mae"].is_monotonic_increasing
    assert table.set_index("trial").loc[0, "estimator.fusion.exchange"] == 1.0  # the config's own comes first
    assert {"parallel.png", "importance.png"} <= {file.name for file in (sweep_file.parent / "out").iterdir()}


def study(file, *overrides, **changes):
    from baa.search.study import Study
    from baa.search.sweepfile import read_sweep

    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))
    return Study(read_sweep(file), file.parent / "out", overrides)


def test_trials_that_all_fail_end_the_sweep_with_what_they_said(sweep_file):
    begun = study(sweep_file, "data.roi=nowhere.csv")
    with pytest.raises(InputError, match=r"3 trials failed in a row; the last said: .*nowhere.csv"):
        begun.run(5, workers=3, progress=False)


def test_a_second_sweep_in_the_same_folder_is_refused_and_so_is_another_one_later(sweep_file):
    begun = study(sweep_file)
    with pytest.raises(InputError, match="another process runs this sweep"):
        study(sweep_file)
    begun.lock.release()
    with pytest.raises(InputError, match="holds trials of another sweep, or of other settings"):
        study(sweep_file, "data.limit=10")


def test_trials_that_would_share_a_folder_are_refused_before_one_starts(sweep_file):
    parameters = yaml.safe_load(sweep_file.read_text())["parameters"] | {"name": {"value": "all"}}
    with pytest.raises(InputError, match="all trials would share a folder"):
        study(sweep_file, parameters=parameters)


def test_a_searched_setting_that_fit_does_not_know_is_refused_before_a_trial_starts(sweep_file):
    parameters = yaml.safe_load(sweep_file.read_text())["parameters"] | {"estimator.fusion.exchang": {"min": 0.0, "max": 1.0}}
    with pytest.raises(InputError, match=r"did you mean estimator.fusion.exchange\?"):
        study(sweep_file, parameters=parameters)


class Scripted:
    """Stands for a trial's process: what it would have written to its folder by and by."""

    epochs = 4

    def __init__(self, command, config, **_):
        self.exchange = config.estimator.fusion.exchange
        self.reported, self.looks, self.ended = 0, 0, False

    def exit_code(self):
        self.looks += 1
        return 0 if self.looks > self.epochs else None

    def by_epoch(self, metric):
        return dict.fromkeys(range(1, min(self.looks, self.epochs) + 1), 10 + self.exchange)

    def final(self, metric):
        return 10 + self.exchange

    def end(self):
        self.ended = True


@pytest.fixture
def scripted(monkeypatch):
    from baa.search import study

    monkeypatch.setattr(study, "TrialProcess", Scripted)
    monkeypatch.setattr(study, "POLL_SECONDS", 0)


def test_poor_trials_end_early_and_none_at_its_last_epoch(sweep_file, scripted):
    begun = study(sweep_file, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2})
    begun.run(12, workers=2, progress=False)
    trials = begun.optuna.trials
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]

    assert len(trials) == 12
    assert pruned
    assert {max(trial.intermediate_values) for trial in pruned} <= {2, 3}
    assert min(trials, key=lambda trial: trial.params["estimator.fusion.exchange"]).state.name == "COMPLETE"


def test_a_grid_is_tried_once_whole_whatever_is_asked_for_and_goes_on_where_it_was(sweep_file, scripted):
    parameters = yaml.safe_load(sweep_file.read_text())["parameters"]
    parameters["estimator.fusion.exchange"] = {"values": [0.0, 0.5, 1.0]}
    begun = study(sweep_file, method="grid", parameters=parameters)
    begun.run(2, workers=1, progress=False)
    begun.lock.release()
    again = study(sweep_file)
    again.run(100, workers=1, progress=False)
    points = [tuple(trial.params.values()) for trial in again.optuna.trials]

    assert len(points) == len(set(points)) == 6


def test_a_trial_that_diverged_is_a_failure_and_the_others_go_on(sweep_file, scripted, monkeypatch):
    monkeypatch.setattr(Scripted, "final", lambda self, metric: float("nan") if self.exchange == 1.0 else 10.0)
    begun = study(sweep_file)
    begun.run(3, workers=1, progress=False)

    assert [trial.state.name for trial in begun.optuna.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
