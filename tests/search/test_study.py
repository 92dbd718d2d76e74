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


def processes(word):
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if word in line and "baa.fit" in line]


def test_a_killed_sweep_leaves_no_trial_behind_and_goes_on_with_it(sweep_file):
    killed = begin(sweep_file, 3)
    log = sweep_file.parent / "out" / "trial-001.log"
    until = time.monotonic() + 120
    while not log.exists() and time.monotonic() < until:
        time.sleep(0.2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    time.sleep(1)
    assert not processes(str(sweep_file.parent))

    going_on = begin(sweep_file, 3)
    said = going_on.communicate(timeout=240)[0]
    assert going_on.returncode == 0, said
    table = pd.read_csv(sweep_file.parent / "out" / "trials.csv")
    assert sorted(table["trial"]) == [0, 1, 2]
    assert set(table["state"]) == {"complete"}
    assert table["val/mae"].is_monotonic_increasing
    assert table.set_index("trial").loc[0, "estimator.fusion.exchange"] == 1.0  # the config's own comes first
    assert {"parallel.png", "importance.png"} <= {file.name for file in (sweep_file.parent / "out").iterdir()}


def test_trials_that_all_fail_end_the_sweep_with_what_they_said(sweep_file):
    from baa.search.study import Study
    from baa.search.sweepfile import read_sweep

    study = Study(read_sweep(sweep_file), sweep_file.parent / "out", ["data.roi=nowhere.csv"])
    with pytest.raises(InputError, match=r"the first 3 trials all failed; the last said: .*nowhere.csv"):
        study.run(5, workers=1, progress=False)


def test_a_second_sweep_in_the_same_folder_is_refused(sweep_file):
    from baa.search.study import Study
    from baa.search.sweepfile import read_sweep

    study = Study(read_sweep(sweep_file), sweep_file.parent / "out")
    with pytest.raises(InputError, match="another process runs this sweep"):
        Study(read_sweep(sweep_file), sweep_file.parent / "out")
    study.lock.release()
