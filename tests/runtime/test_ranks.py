"""Two processes train the same model as one: equal losses, weights and metrics."""

import json

import pandas as pd
import pytest
import torch
from tiny_run import command

ALIKE = [
    "data.phantom.count=62",  # 21 in the test split, so the two processes get different numbers
    "data.split.val=0.2",
    "data.split.test=0.25",
    *(f"data.augment.{name}=0" for name in ("degrees", "scale", "shift", "contrast", "brightness", "flip")),
    "locator.backbone.name=test_efficientnet_ln",  # without batch norm, whose statistics would come from half a batch
    "estimator.carpal.name=test_efficientnet_ln",
    "estimator.hand.name=test_efficientnet_ln",
    "estimator.carpal.conv_pool=false",
    "crops.box_method=moments",
    *(
        f"{stage}.fit.{setting}"
        for stage in ("locator", "estimator", "joint")
        for setting in ("epochs=5", "optimizer=adamw", "lr=1e-3")
    ),
    "trainer.limit_train_batches=4",
    "trainer.accelerator=cpu",
]
TOLERANCE = 1e-4


def fit(folder, processes, *more):
    """Train on `processes` processes with eight cases per step in total; return the run's folder."""
    batches = [f"{stage}.fit.batch_size={8 // processes}" for stage in ("locator", "estimator", "joint")]
    done = command(folder, *ALIKE, *batches, f"trainer.devices={processes}", *more)
    output, _ = done.communicate(timeout=300)
    assert done.returncode == 0, output
    return folder / "tiny"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Locators of one and of two processes and an estimator of two; then both kinds of joint stage from that estimator."""
    stages = {1: "stages=[locator]", 2: "stages=[locator,estimator]"}
    first = {n: fit(tmp_path_factory.mktemp(f"of{n}"), n, stages[n]) for n in (1, 2)}
    start = f"joint.start={first[2] / 'estimator' / 'best.ckpt'}"
    return first, {n: fit(tmp_path_factory.mktemp(f"joint{n}"), n, "stages=[joint]", start) for n in (1, 2)}


@pytest.mark.parametrize("stage", ["locator", "joint"])
def test_losses_and_weights_equal_those_of_one_process(runs, stage):
    """The estimator stage is left out: its batch norm statistics come from each process's own cases."""
    folders = runs[stage == "joint"]
    one, two = (pd.read_csv(folders[n] / stage / "metrics.csv") for n in (1, 2))
    ends = [torch.load(folders[n] / stage / "last.ckpt", weights_only=True)["state_dict"] for n in (1, 2)]
    losses = (one["train/loss"] - two["train/loss"]).abs().max()
    weights = max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0])
    print(f"{stage}: largest difference after 20 steps: loss {losses:.1e}, weights {weights:.1e}")  # noqa: T201

    assert len(one) == len(two) == 5
    assert losses < TOLERANCE
    assert weights < TOLERANCE
    for metric in ("val/mae", "val/rmse", "val/within_12"):
        assert two[metric].tolist() == pytest.approx(one[metric].tolist(), abs=1e-3)


@pytest.mark.parametrize("stage", ["locator", "estimator", "joint"])
def test_the_metrics_of_two_processes_equal_those_of_one(runs, stage, tmp_path):
    from baa.api import load_model

    folder = runs[stage == "joint"][2]
    of_two = json.loads((folder / "metrics.json").read_text())[stage]
    of_one = load_model(folder / stage / "best.ckpt", device="cpu").evaluate(split="test", out=tmp_path)[stage]

    assert of_two["test/cases"] == of_one["test/cases"] == 21
    for metric in ("test/mae", "test/rmse", "test/within_6", "test/bias"):
        assert of_two[metric] == pytest.approx(of_one[metric], abs=1e-4)
