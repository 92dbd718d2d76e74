"""A sweep without W&B: its trials are runs of `baa.fit`; a kill loses at most an epoch of one."""

import os
import signal
import subprocess
import time

import forked
import pandas as pd
import pytest
import yaml
from tiny_run import settings

from baa.errors import InputError


@pytest.fixture
def sweep_file(tmp_path, finished):
    """A small search over the fusion weights, on the locator of a finished run, in the test's folder."""
    folder, _ = finished
    (tmp_path / "tiny.yaml").write_text("stages: [estimator]\n")
    shared = [setting.partition("=")[::2] for setting in settings(tmp_path)]
    parameters = {name: {"value": value} for name, value in shared}
    parameters["name"] = {"value": "tried/${oc.env:WANDB_RUN_ID}"}
    parameters["locator.checkpoint"] = {"value": str(folder / "tiny" / "locator" / "best.ckpt")}
    parameters["estimator.fusion.exchange"] = {"min": 0.0, "max": 1.0}
    parameters["estimator.fusion.alpha_learned"] = {"values": [True, False]}
    content = {
        "method": "bayes",
        "metric": {"name": "val/mae", "goal": "minimize"},
        "command": ["${interpreter}", "-m", "baa.fit", "--config", str(tmp_path / "tiny.yaml"), "${args_no_hyphens}"],
        "parameters": parameters,
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "sweep.yaml"


def begin(file, count, *more):
    arguments = ["-m", "baa.sweep", file, "--count", count, "--out", file.parent / "out", *more]
    return forked.start(arguments, env=os.environ)


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    assert condition()


def processes(word):
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if word in line and "baa.fit" in line]


def run_of(file, number):
    """The folder of a trial's run, from the journal."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(file.parent / "out" / "trials.journal")))
    return file.parent / "tried" / storage.get_all_trials(0)[number].user_attrs["run"]


@pytest.mark.slow
def test_a_killed_sweep_ends_its_trials_and_resumes_them(sweep_file):
    killed = begin(sweep_file, 3, "estimator.fit.epochs=6")
    log = sweep_file.parent / "out" / "trial-001.log"
    wait_for(log.exists)
    wait_for((run_of(sweep_file, 1) / "estimator" / "last.ckpt").exists)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(1)
    assert not processes(str(sweep_file.parent))

    resumed = begin(sweep_file, 3, "estimator.fit.epochs=6")
    output = resumed.communicate(timeout=240)[0]
    assert resumed.returncode == 0, output
    assert "estimator: resumes after epoch" in log.read_text()
    table = pd.read_csv(sweep_file.parent / "out" / "trials.csv")
    assert sorted(table["trial"]) == [0, 1, 2]
    assert set(table["state"]) == {"complete"}
    assert table["val/mae"].is_monotonic_increasing
    assert table.set_index("trial").loc[0, "estimator.fusion.exchange"] == 1.0  # the config's own value is tried first
    assert {"parallel.png", "importance.png"} <= {file.name for file in (sweep_file.parent / "out").iterdir()}


def study(file, *overrides, **changes):
    from baa.search.study import Study
    from baa.search.sweepfile import read_sweep

    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | changes))
    return Study(read_sweep(file), file.parent / "out", overrides)


def test_three_failed_trials_in_a_row_end_the_sweep_with_the_last_error(sweep_file):
    command = yaml.safe_load(sweep_file.read_text())["command"]
    failing = ["${interpreter}", "-c", "raise SystemExit('no room')", *command[1:]]  # the rest is read for the settings
    search = study(sweep_file, command=failing)
    with pytest.raises(InputError, match=r"3 trials failed in a row; see trial-\d+\.log, which ends with: no room"):
        search.run(5, workers=3, progress=False)


def test_the_same_refusal_twice_ends_the_sweep(sweep_file):
    command = yaml.safe_load(sweep_file.read_text())["command"]
    refusing = ["${interpreter}", "-c", "import sys; sys.stderr.write('baa: no data\\n'); sys.exit(2)", *command[1:]]
    search = study(sweep_file, command=refusing)
    with pytest.raises(InputError, match="two trials were refused for the same reason: no data"):
        search.run(5, workers=1, progress=False)
    assert len(search.optuna.trials) == 2


def test_a_second_or_different_sweep_in_the_same_folder_is_refused(sweep_file):
    search = study(sweep_file)
    with pytest.raises(InputError, match="another process runs this sweep"):
        study(sweep_file)
    search.lock.release()
    with pytest.raises(InputError, match="holds trials of another sweep, or of other settings"):
        study(sweep_file, "data.limit=10")


def test_trials_that_would_share_a_folder_are_refused_before_the_first(sweep_file):
    parameters = yaml.safe_load(sweep_file.read_text())["parameters"] | {"name": {"value": "all"}}
    with pytest.raises(InputError, match="all trials would share a folder"):
        study(sweep_file, parameters=parameters)


def test_an_unknown_searched_setting_is_refused_before_the_first_trial(sweep_file):
    parameters = yaml.safe_load(sweep_file.read_text())["parameters"] | {"estimator.fusion.exchang": {"min": 0.0, "max": 1.0}}
    with pytest.raises(InputError, match=r"did you mean exchange"):
        study(sweep_file, parameters=parameters)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": {"name": "val/mea"}}, r"sweep.yaml: metric: no run logs val/mea; did you mean val/mae\?"),
        ({"metric": {"name": "loss"}}, r"sweep.yaml: metric: no run logs loss; "),
        ({"metric": {"name": "test/mae_ci"}}, "no run logs test/mae_ci"),
        ({"metric": {"name": "test/mae"}, "early_terminate": {"type": "hyperband"}}, "test/mae is logged after the last epoch"),
    ],
)
def test_a_metric_that_no_trial_has_is_refused_before_the_first(sweep_file, changes, message):
    with pytest.raises(InputError, match=message):
        study(sweep_file, **changes)
    assert not (sweep_file.parent / "out").exists()


def test_every_metric_of_a_run_may_be_searched(finished):
    from baa.config.load import load
    from baa.search.metrics import check_metric, final_metrics

    folder, metrics = finished
    for stage in ("locator", "estimator"):
        config = load([], [*settings(folder), f"stages=[{stage}]", "locator.checkpoint=x"])
        numbers = [name for name, value in metrics[stage].items() if not isinstance(value, list)]
        for name in numbers:
            check_metric(name, config, every_epoch=False)
        assert {"test/mae", "test/carpal_iou", "test/capitate_distance"} < set(numbers)
        for name in pd.read_csv(folder / "tiny" / stage / "metrics.csv").columns:
            if "/" in name:
                check_metric(name, config, every_epoch=True)
    bare = load([], [*settings(folder), "data.source=rsna"])
    assert not {"test/carpal_iou", "test/capitate_distance"} & set(final_metrics(bare))
    whole = load([], [*settings(folder), "estimator.streams=[whole]"])
    assert "test/hand_iou" not in final_metrics(whole)


def test_false_settings_that_the_command_leaves_out_are_refused_where_the_config_has_true(sweep_file):
    content = yaml.safe_load(sweep_file.read_text())
    command = [*content["command"][:-1], "${args_no_boolean_flags}"]
    with pytest.raises(InputError, match=r"estimator.fusion.alpha_learned: \$\{args_no_boolean_flags\} leaves out false"):
        study(sweep_file, command=command)
    values = {"estimator.fusion.weights_learned": {"values": [True, False]}, "wandb.enabled": {"value": False}}
    del content["parameters"]["estimator.fusion.alpha_learned"], content["parameters"]["trainer.progress"]
    study(sweep_file, command=command, parameters=content["parameters"] | values)


class Scripted:
    """Replaces a trial's process: one more epoch each time the study polls it."""

    epochs = 4

    def __init__(self, command, config, **_):
        self.exchange = config.estimator.fusion.exchange
        self.reported, self.polls, self.ended = 0, 0, False

    def exit_code(self):
        self.polls += 1
        return 0 if self.polls > self.epochs else None

    def by_epoch(self, metric):
        return dict.fromkeys(range(1, min(self.polls, self.epochs) + 1), 10 + self.exchange)

    def final(self, metric):
        return 10 + self.exchange

    def end(self):
        self.ended = True


@pytest.fixture
def scripted(monkeypatch):
    from baa.search import study

    monkeypatch.setattr(study, "TrialProcess", Scripted)
    monkeypatch.setattr(study, "POLL_SECONDS", 0)


def test_poor_trials_are_pruned_before_their_last_epoch(sweep_file, scripted):
    search = study(sweep_file, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2})
    search.run(8, workers=2, progress=False)
    trials = search.optuna.trials
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]

    assert len(trials) == 8
    assert pruned
    assert {max(trial.intermediate_values) for trial in pruned} <= {2, 3}
    assert min(trials, key=lambda trial: trial.params["estimator.fusion.exchange"]).state.name == "COMPLETE"


class Worsening(Scripted):
    """A trial whose metric grows after its first epoch, the more the larger its exchange is."""

    def by_epoch(self, metric):
        return {epoch: 10 + self.exchange * (epoch - 1) for epoch in super().by_epoch(metric)}


@pytest.mark.parametrize("strict", [True, False])
def test_trials_are_compared_by_their_metric_of_the_epoch_or_by_their_best_so_far(strict, sweep_file, scripted, monkeypatch):
    from baa.search import study as module

    monkeypatch.setattr(module, "TrialProcess", Worsening)
    search = study(sweep_file, early_terminate={"type": "hyperband", "min_iter": 2, "eta": 2, "strict": strict})
    search.run(8, workers=2, progress=False)
    pruned = [trial for trial in search.optuna.trials if trial.state.name == "PRUNED"]
    assert bool(pruned) == strict  # the best so far is that of the first epoch, the same for all


def test_a_resumed_grid_tries_each_point_once(sweep_file, scripted):
    parameters = yaml.safe_load(sweep_file.read_text())["parameters"]
    parameters["estimator.fusion.exchange"] = {"values": [0.0, 1.0]}
    search = study(sweep_file, method="grid", parameters=parameters)
    search.run(2, workers=1, progress=False)
    search.lock.release()
    again = study(sweep_file)
    again.run(100, workers=1, progress=False)
    points = [tuple(trial.params.values()) for trial in again.optuna.trials]

    assert len(points) == len(set(points)) == 4


def test_the_line_that_a_trial_was_refused_with_is_found_among_others(sweep_file):
    search = study(sweep_file)
    assert search._error(0) == ""
    search._log(0).parent.mkdir(parents=True, exist_ok=True)
    search._log(0).write_text("decoding\nbaa: data.root: RSNA is no folder\nwandb: synced\n")
    assert search._error(0) == ": data.root: RSNA is no folder"


def test_a_diverged_trial_fails_and_the_others_continue(sweep_file, scripted, monkeypatch):
    monkeypatch.setattr(Scripted, "final", lambda self, metric: float("nan") if self.exchange == 1.0 else 10.0)
    search = study(sweep_file)
    search.run(3, workers=1, progress=False)

    assert [trial.state.name for trial in search.optuna.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
