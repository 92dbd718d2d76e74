"""A trial that W&B gives to an agent again has the settings of the first time, not those that were sent without their value."""

import pytest

from baa.config.load import load, to_plain, to_share
from baa.config.requeued import as_at_first

COMMAND = ["runs=/scratch", "data.root=/data/rsna", "wandb.enabled=true"]
PARAMETERS = {
    "name": "fusion/run0",
    "seed": 0,
    "stages": "[estimator]",
    "estimator.fit.ema": None,
    "estimator.fusion.exchange": 0.25,
    "locator.checkpoint": "runs/rsna/locator/best.ckpt",
}
GROUP = {"estimator": "{streams: [carpal, hand], fusion: {exchange: 0.5}}"}


def arguments(config):
    """What an agent puts for `${args_no_hyphens}`."""
    return [f"{name}={value}" for name, value in config.items()]


@pytest.mark.parametrize("parameters", [PARAMETERS, {"seed": 3}, {"seed": 1} | GROUP])
@pytest.mark.parametrize("dashes", ["", "--"])
@pytest.mark.parametrize("full", [False, True])
def test_a_requeued_trial_has_the_settings_of_the_first_time(parameters, dashes, full):
    first = load([], [*COMMAND, *arguments(parameters)])
    sent = to_plain(first) if full else to_share(to_plain(first))
    internal = {"cli_version": "0.31.0", "t": {"1": [1, 5], "4": "3.11"}, "m": []}
    requeued = {"_wandb": internal, "wandb_version": 1} | sent | parameters  # a parameter of the sweep has its own value
    again = load([], [*COMMAND, *(dashes + argument for argument in arguments(requeued))])

    assert to_plain(again) == to_plain(first)


def test_other_overrides_stand_as_they_are():
    overrides = ["name=", "runs=runs", "weights=None", *arguments(GROUP)]
    assert as_at_first(overrides) == overrides
