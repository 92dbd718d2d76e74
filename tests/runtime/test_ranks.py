"""Two processes train what one trains: the same losses, the same weights, the same verdict."""

import json

import pandas as pd
import pytest
import torch
from tiny_run import command

ALIKE = [
    "data.phantom.count=62",  # 21 to test, so that the processes' shares differ
    "data.split.val=0.2",
    "data.split.test=0.25",
    *(f"data.augment.{name}=0" for name in ("degrees", "scale", "shift", "contrast", "brightness", "flip")),
    "locator.backbone.name=test_efficientnet_ln",  # no batch norm, whose statistics would be of half a batch
    "estimator.carpal.name=test_efficientnet_ln",
    "estimator.hand.name=test_efficientnet_ln",
    "estimator.carpal.conv_pool=false",
    "crops.rule=moments",
    *(
        f"{stage}.fit.{setting}"
        for stage in ("locator", "estimator", "joint")
        for setting in ("epochs=5", "epoch_steps=4", "optimizer=adamw", "lr=1e-3")
    ),
    "trainer.accelerator=cpu",
]
APART = 1e-4


def fit(folder, processes, *more):
    """A run on so many processes, with eight cases a step in all; its folder."""
    batches = [f"{stage}.fit.batch_size={8 // processes}" for stage in ("locator", "estimator", "joint")]
    done = command(folder, *ALIKE, *batches, f"trainer.devices={processes}", *more)
    said, _ = done.communicate(timeout=300)
    assert done.returncode == 0, said
    return folder / "tiny"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A locator of one process and one of two, and an estimator of two; then `joint` of each, from that estimator."""
    stages = {1: "stages=[locator]", 2: "stages=[locator,estimator]"}
    first = {n: fit(tmp_path_factory.mktemp(f"of{n}"), n, stages[n]) for n in (1, 2)}
    start = f"joint.start={first[2] / 'estimator' / 'best.ckpt'}"
    return first, {n: fit(tmp_path_factory.mktemp(f"joint{n}"), n, "stages=[joint]", start) for n in (1, 2)}


@pytest.mark.parametrize("stage", ["locator", "joint"])
def test_losses_and_weights_are_those_of_one_process(runs, stage):
    """The estimator by itself is left out: it has batch norms, whose statistics are of a process's own cases."""
    folders = runs[stage == "joint"]
    one, two = (pd.read_csv(folders[n] / stage / "metrics.csv") for n in (1, 2))
    ends = [torch.load(folders[n] / stage / "last.ckpt", weights_only=True)["state_dict"] for n in (1, 2)]
    losses = (one["train/loss"] - two["train/loss"]).abs().max()
    weights = max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0])
    print(f"{stage}: losses {losses:.1e} apart in 20 steps, weights {weights:.1e}")  # noqa: T201

    assert len(one) == len(two) == 5
    assert losses < APART
    assert weights < APART
    for metric in ("val/mae", "val/rmse", "val/within_12"):
        assert two[metric].tolist() == pytest.approx(one[metric].tolist(), abs=1e-3)


@pytest.mark.parametrize("stage", ["locator", "estimator", "joint"])
def test_the_verdict_of_two_processes_is_that_of_one(runs, stage, tmp_path):
    from baa.evaluation.checkpoint import evaluate

    folder = runs[stage == "joint"][2]
    told = json.loads((folder / "metrics.json").read_text())[stage]
    alone = evaluate(folder / stage / "best.ckpt", [], split="test", out=tmp_path)[stage]

    assert told["test/cases"] == alone["test/cases"] == 21
    for metric in ("test/mae", "test/rmse", "test/within_6", "test/bias"):
        assert told[metric] == pytest.approx(alone[metric], abs=1e-4)
