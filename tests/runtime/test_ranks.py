"""Two processes train the same model as one: equal losses, weights and metrics."""

import json

import pandas as pd
import pytest
import torch
from tiny_run import command, settings

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
        for setting in ("epochs=3", "optimizer=adamw", "lr=1e-3")
    ),
    "trainer.limit_train_batches=4",
    "trainer.accelerator=cpu",
]
TOLERANCE = 1e-4


def given(processes):
    """Settings with which that many processes train with eight cases per step in total."""
    return [*ALIKE, *(f"{stage}.fit.batch_size={8 // processes}" for stage in ("locator", "estimator", "joint"))]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of a run of all three stages by two processes."""
    folder = tmp_path_factory.mktemp("of2")
    job = command(folder, *given(2), "trainer.devices=2", "stages=[locator,estimator,joint]")
    output, _ = job.communicate(timeout=300)
    assert job.returncode == 0, output
    return folder / "tiny"


@pytest.fixture(scope="module")
def one(two, tmp_path_factory, brief_finish):
    """The folder of a locator and a joint stage by this process alone; the joint stage starts from the estimator of two."""
    from baa.config.load import load
    from baa.training.run import run

    folder = tmp_path_factory.mktemp("of1")
    start = f"joint.start={two / 'estimator' / 'best.ckpt'}"
    run(load([], settings(folder, *given(1), "stages=[locator,joint]", start)))
    return folder / "tiny"


@pytest.mark.parametrize("stage", ["locator", "joint"])
def test_losses_and_weights_equal_those_of_one_process(one, two, stage):
    """The estimator stage is left out: its batch norm statistics come from each process's own cases."""
    curves = [pd.read_csv(folder / stage / "metrics.csv") for folder in (one, two)]
    ends = [torch.load(folder / stage / "last.ckpt", weights_only=True)["state_dict"] for folder in (one, two)]
    losses = (curves[0]["train/loss"] - curves[1]["train/loss"]).abs().max()
    weights = max(float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0])
    print(f"{stage}: largest difference after 12 steps: loss {losses:.1e}, weights {weights:.1e}")  # noqa: T201

    assert len(curves[0]) == len(curves[1]) == 3
    assert losses < TOLERANCE
    assert weights < TOLERANCE
    for metric in ("val/mae", "val/rmse", "val/within_12"):
        assert curves[1][metric].tolist() == pytest.approx(curves[0][metric].tolist(), abs=1e-3)


@pytest.mark.parametrize("stage", ["locator", "estimator", "joint"])
def test_the_metrics_of_two_processes_equal_those_of_one(two, stage, tmp_path):
    from baa.api import load_model

    of_two = json.loads((two / "metrics.json").read_text())[stage]
    of_one = load_model(two / stage / "best.ckpt", device="cpu").evaluate(split="test", out=tmp_path)[stage]

    assert of_two["test/cases"] == of_one["test/cases"] == 21
    for metric in ("test/mae", "test/rmse", "test/within_6", "test/bias"):
        assert of_two[metric] == pytest.approx(of_one[metric], abs=1e-4)
