"""A W&B sweep file is read as W&B reads it, or refused with the place and the fix."""

from pathlib import Path

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from baa.errors import InputError
from baa.search.sweepfile import read_sweep

SWEEPS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))
assert SWEEPS
PLAIN = {
    "method": "random",
    "metric": {"name": "val/mae", "goal": "minimize"},
    "command": ["${env}", "${interpreter}", "-m", "baa.fit", "--config", "conf/${envvar:WHICH}.yaml", "${args_no_hyphens}"],
    "parameters": {"seed": {"value": 7}, "estimator.fusion.exchange": {"min": 0.0, "max": 1.0}},
}


@pytest.fixture
def write(tmp_path):
    def write(**changes):
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(PLAIN | changes))
        return tmp_path / "sweep.yaml"

    return write


def highest(sweep):
    """The point of the last choices and the highest values."""
    return {
        name: space.choices[-1] if isinstance(space, CategoricalDistribution) else space.high
        for name, space in sweep.searched.items()
    }


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_fit_accepts_the_trials_of_every_sweep(file, monkeypatch):
    monkeypatch.setenv("RSNA", "/data/rsna")
    sweep = read_sweep(file)
    points = sweep.grid() if sweep.method == "grid" else [{}, sweep.example(), highest(sweep)]
    configs = [sweep.config(sweep.trial(point), "abc") for point in points]

    assert {config.data.root for config in configs} == {None if file.stem == "quickstart" else "/data/rsna"}
    assert {config.name for config in configs} == {f"{file.stem}/abc"}


def test_wandb_accepts_every_sweep():
    from wandb.apis.public.sweeps import _validate_config_and_fill_distribution as checked

    for file in SWEEPS:
        assert checked(yaml.safe_load(file.read_text()))["parameters"]


def test_a_trial_runs_the_command_that_the_agent_would_start(write, monkeypatch):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("WHICH", "rsna")
    sweep = read_sweep(write())
    ours = sweep.trial({"estimator.fusion.exchange": 0.25})
    settings = create_sweep_command_args({"args": {"seed": {"value": 7}, "estimator.fusion.exchange": {"value": 0.25}}})
    agents = create_sweep_command(list(PLAIN["command"]))[:-1] + settings["args_no_hyphens"]

    assert ours[2:] == agents[2:]
    assert "conf/rsna.yaml" in ours


def test_flags_and_null_are_written_as_the_agent_writes_them_and_read(write, monkeypatch):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    monkeypatch.setenv("WHICH", "rsna")
    sweep = read_sweep(write(command=[*PLAIN["command"][:-1], "${args_no_boolean_flags}"]))
    for ema in (None, "None", 0.99):
        given = {"seed": 7, "wandb.enabled": True, "trainer.profile": False, "estimator.fit.ema": ema}
        agents = create_sweep_command_args({"args": {name: {"value": value} for name, value in given.items()}})
        command = sweep.trial(given)
        config = sweep.config(command, "abc")

        assert command[-3:] == agents["args_no_boolean_flags"][-3:] == [*command[-3:-1], f"--estimator.fit.ema={ema}"]
        assert (config.wandb.enabled, config.trainer.profile) == (True, False)
        assert config.estimator.fit.ema == (0.99 if ema == 0.99 else None)


def test_ranges_have_the_distributions_of_wandb(write):
    parameters = {
        "a": {"min": 1, "max": 4},
        "b": {"min": 0.5, "max": 2.0},
        "c": {"distribution": "log_uniform_values", "min": 1.0e-5, "max": 1.0e-2},
        "d": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
        "e": {"values": ["x", "y"]},
    }
    assert read_sweep(write(parameters=parameters)).searched == {
        "a": IntDistribution(1, 4),
        "b": FloatDistribution(0.5, 2.0),
        "c": FloatDistribution(1e-5, 1e-2, log=True),
        "d": FloatDistribution(0.0, 1.0, step=0.25),
        "e": CategoricalDistribution(["x", "y"]),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "annealing"}, "method: annealing is not supported; give one of bayes, grid, random"),
        ({"metric": {}}, "metric: .* give a name"),
        ({"metric": "val/mae"}, "metric: val/mae is not usable; give a name"),
        ({"metric": {"name": "val/mae", "goal": "minimise"}}, "goal: minimize or maximize"),
        ({"parameters": {"seed": {"values": []}}}, "parameters.seed: "),
        ({"parameters": {"seed": {"values": [1, 2], "probabilities": [0.1, 0.9]}}}, "probabilities is not supported"),
        ({"parameters": {"a": {"distribution": "log_uniform_values", "min": 0.0, "max": 1.0}}}, "parameters.a: "),
        ({"early_terminate": {"type": "hyperband", "eta": 1}}, "eta of 2 or more"),
        ({"parameters": {"seed": {"value": 1}}}, "nothing is left to search"),
        ({"parameters": {"seed": {"min": 1}}}, "parameters.seed: no values; give value:"),
        ({"parameters": {"seed": {"min": 2, "max": 1}}}, "parameters.seed: min is 2 and max is 1"),
        ({"parameters": {"seed": {"distribution": "beta", "min": 0, "max": 1}}}, "parameters.seed: distribution beta"),
        ({"parameters": {"seed": {"min": 0.0, "max": float("inf")}}}, "parameters.seed: min is 0.0 and max is inf"),
        ({"parameters": {"seed": {"min": float("-inf"), "max": 1.0}}}, "parameters.seed: min is -inf"),
        ({"early_terminate": {"type": "envelope"}}, "early_terminate: baa.sweep takes type: hyperband"),
        ({"early_terminate": {"type": "hyperband", "strict": "yes"}}, "strict: true or false"),
        ({"run_cap": 3}, "run_cap is not supported"),
    ],
)
def test_unknown_or_invalid_entries_are_refused(write, changes, message):
    with pytest.raises(InputError, match=message):
        read_sweep(write(**changes))


@pytest.mark.parametrize(("more", "strict"), [({"strict": True}, True), ({"strict": False}, False), ({}, False)])
def test_early_termination_is_strict_only_if_the_file_says_so(write, more, strict):
    sweep = read_sweep(write(early_terminate={"type": "hyperband", "min_iter": 6, "eta": 2} | more))
    assert (sweep.early, sweep.strict) == ((6, 2), strict)


def test_the_sweeps_that_end_trials_early_are_strict():
    early = [sweep for sweep in map(read_sweep, SWEEPS) if sweep.early]
    assert early
    assert all(sweep.strict for sweep in early)


def test_a_trial_may_have_several_configs(write, tmp_path):
    (tmp_path / "ours.yaml").write_text("locator: {px: 96}\n")
    files = ["--config", "conf/rsna.yaml", f"--config={tmp_path}/ours.yaml"]
    sweep = read_sweep(write(command=["${interpreter}", "-m", "baa.fit", *files, "${args}"]))
    config = sweep.config(sweep.trial({"estimator.fusion.exchange": 0.75}, ["crops.hand.px=64"]), "abc")

    assert (config.name, config.locator.px, config.crops.hand.px, config.crops.box_method) == ("ours", 96, 64, "moments")
    assert (config.seed, config.estimator.fusion.exchange) == (7, 0.75)


def test_a_trial_without_a_config_is_refused(write):
    sweep = read_sweep(write(command=["${interpreter}", "-m", "baa.fit", "${args}"]))
    with pytest.raises(InputError, match="a trial runs `python -m baa.fit --config FILE ...`"):
        sweep.config(sweep.trial({}), "abc")


def test_a_grid_needs_values(write):
    with pytest.raises(InputError, match=r"estimator.fusion.exchange: a grid needs values"):
        list(read_sweep(write(method="grid")).grid())
