"""What a stage is trained with: for networks that it takes from another model, the settings of that model."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from baa.checkpoints.trained_model import TRAINING_ONLY, TrainedModel
from baa.config.load import differences, load, to_plain
from baa.config.networks import ESTIMATOR, LOCATOR, merged, network_settings
from baa.config.schema import Config
from baa.errors import InputError
from baa.nets.two_stage import WHOLE
from baa.training.initial_weights import SourceModels

TAKEN_OVER = ("whole_px", "flip_average", "auxiliary")
"""Settings of an estimator that are no arguments of it and belong to its weights all the same."""


def as_started(stage: str, config: Config, sources: SourceModels) -> Config:
    """Take over the settings of the networks that a stage does not build, and log those that differ.

    The estimator takes its locator's, joint training its start's, with the crops on which that start was trained. So the
    settings in the stage's checkpoint and card are those of what was built.

    Args:
        stage: to be trained.
        config: the run's settings.
        sources: the models that it starts from.

    Raises:
        InputError: the given locator cannot be read as the settings of the crops ask.
    """
    if stage == "joint":
        start, setting = sources.estimator()
        settings = _of_estimator(start)
    elif stage == "estimator" and set(config.estimator.streams) != {WHOLE}:
        start, setting = sources.locator(), "locator.checkpoint" if config.locator.checkpoint else "locator"
        settings = {LOCATOR: network_settings("locator", {LOCATOR: start.networks[LOCATOR]})[LOCATOR]}
    else:
        return config
    started = load([], base=merged(to_plain(config), settings))
    if started.crops.cam_mode == "class" and started.locator.head != "distribution":
        raise InputError(f"crops.cam_mode: class needs bins of age, and the locator of {setting} has none; give relu")
    for key, (given, taken) in differences(config, started).items():
        rank_zero_info(f"{stage}: {key}={taken}, not {given}: {setting} was built with it")
    return started


def _of_estimator(start: TrainedModel) -> Mapping[str, Any]:
    crops = {name: value for name, value in start.settings["crops"].items() if name not in TRAINING_ONLY}
    own = {name: start.settings[ESTIMATOR][name] for name in TAKEN_OVER}
    if set(start.networks) != {LOCATOR, ESTIMATOR}:
        return {}  # refused when the module is built
    return merged(network_settings("joint", start.networks), {"crops": crops, ESTIMATOR: own})
