"""Checks of a config: each setting by the range in its schema, then settings that must agree with each other."""

import math
import re
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any

from baa.config.schema import REGIONS, STAGES, Config
from baa.errors import InputError
from baa.model_card import has_locator

LONGEST_LIST = 32
SMALLEST_POOLED_PX = 33
"""Side of the smallest crop for `conv_pool`: its maximum over 2 x 2 cells needs two cells of 32 pixels, the last in part."""


def walk(node: Any, above: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Every setting below a group of settings, as (dotted key, its field in the schema, value)."""
    for entry in fields(node):
        key, value = above + entry.name, getattr(node, entry.name)
        if is_dataclass(value):
            yield from walk(value, f"{key}.")
        else:
            yield key, entry, value


def allowed(entry: Field[Any]) -> str:
    """The range of a setting in words; empty without one."""
    low, high = entry.metadata["low"], entry.metadata["high"]
    if entry.metadata["choices"]:
        return ", ".join(entry.metadata["choices"])
    if low is not None and high is not None:
        return f"between {low} and {high}"
    words = ["positive" if entry.metadata["positive"] else "", "" if low is None else f"at least {low}"]
    return ", ".join(filter(None, [*words, "" if high is None else f"at most {high}"]))


def check(config: Config) -> None:
    """Refuse settings out of range and settings that contradict each other.

    Raises:
        InputError: with every problem found.
    """
    problems = [
        f"{key}: {problem}"
        for key, entry, value in walk(config)
        for item in (value if isinstance(value, list) else [value])
        if (problem := _out_of_range(entry, item))
    ]
    problems += [
        f"{key}: a list of {len(value)}; give at most {LONGEST_LIST}"
        for key, _, value in walk(config)
        if isinstance(value, list) and len(value) > LONGEST_LIST
    ]
    _refuse(problems or list(_contradictions(config)))


def check_sources(config: Config, card: dict[str, Any] | None) -> None:
    """Refuse a run with a network that is neither trained nor given.

    Args:
        config: the settings of a new run.
        card: the card of the model that `weights` names.

    Raises:
        InputError: with every problem found.
    """
    _refuse(list(_missing_sources(config, card)))


def _refuse(problems: list[str]) -> None:
    if problems:
        raise InputError("; ".join(problems))


def _out_of_range(entry: Field[Any], value: Any) -> str | None:
    low, high, positive, choices = (entry.metadata[name] for name in ("low", "high", "positive", "choices"))
    if isinstance(value, str):
        return f"{value!r} is none of {', '.join(choices)}" if choices and value not in choices else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if positive and value <= 0:
        return f"{value} is not positive"
    below, over = low is not None and value < low, high is not None and value > high
    if (below or over) and low is not None and high is not None:
        return f"{value} is not between {low} and {high}"
    most = entry.metadata["most"] if high is None else high
    if below:
        return f"{value} is below {low}"
    return f"{value} is above {most}" if most is not None and value > most else None


def _contradictions(config: Config) -> Iterator[str]:
    streams, split, crops = config.estimator.streams, config.data.split, config.crops
    for key, chosen in (("stages", config.stages), ("estimator.streams", streams)):
        if not chosen:
            yield f"{key}: the list is empty; name at least one"
    for key, chosen in (("estimator.streams", streams), ("estimator.fusion.sex_at", config.estimator.fusion.sex_at)):
        if len(set(chosen)) < len(chosen):
            yield f"{key}: {chosen} names one of them twice"
    if config.stages != [stage for stage in STAGES if stage in config.stages]:
        yield f"stages: {config.stages} is out of order; the order is {', '.join(STAGES)}, each at most once"
    for stage in STAGES:
        fit = getattr(config, stage).fit
        if fit.schedule == "onecycle" and fit.warmup == 1:
            yield f"{stage}.fit.warmup: 1 leaves no steps in which the learning rate of one cycle falls; give less"
    for name, region in crops.regions().items():
        if region.min_side > region.max_side:
            yield f"crops.{name}.min_side: {region.min_side} is above crops.{name}.max_side, {region.max_side}"
        if len(region.prior_center) != 2:
            yield f"crops.{name}.prior_center: {region.prior_center} is not [x, y]"
    for name, region in crops.regions().items():
        if name in streams and getattr(config.estimator, name).conv_pool and region.px < SMALLEST_POOLED_PX:
            yield (
                f"crops.{name}.px: {region.px} is too small for estimator.{name}.conv_pool; "
                f"give at least {SMALLEST_POOLED_PX}, or estimator.{name}.conv_pool=false"
            )
    if crops.cam_method == "gradient_x_activation" and not crops.cam_layers:
        yield "crops.cam_layers: the list is empty; name at least one stride or layer of the locator, such as 8 and 16"
    if crops.cam_method == "grad_cam":
        unused = {"cam_smoothing": crops.cam_smoothing}
        unused |= {f"{name}.flip_average": region.flip_average for name, region in crops.regions().items()}
        for key, value in unused.items():
            if value:
                yield f"crops.{key}: Grad-CAM does not use it; remove it or give crops.cam_method=gradient_x_activation"
    if not (split.val > 0 and split.test >= 0 and split.val + split.test < 1):
        yield f"data.split: val={split.val} and test={split.test}; val must be positive, and both must leave cases to train on"
    if split.fold >= (split.folds or 1):
        yield f"data.split.fold: {split.fold} is no fold of data.split.folds={split.folds}; they are counted from 0"
    if not re.fullmatch(r"auto|[1-9]\d*", config.trainer.devices):
        yield f"trainer.devices: {config.trainer.devices} is neither auto nor a number from 1"
    if config.locator.backbone.weights == "locator":
        yield "locator.backbone.weights: locator is for streams of the estimator; give imagenet, none or a weights file"
    if "joint" in config.stages:
        yield from _joint_contradictions(config)


def _joint_contradictions(config: Config) -> Iterator[str]:
    crops = config.crops
    if not set(config.estimator.streams) & set(REGIONS):
        yield f"stages: joint trains through crops; add one of {', '.join(REGIONS)} to estimator.streams"
    if crops.cam_method == "gradient_x_activation" and not config.joint.locator_weight:
        yield (
            "joint.locator_weight: 0 leaves the layers behind crops.cam_layers without a gradient; "
            "give a positive one or crops.cam_method=grad_cam"
        )
    if crops.box_method == "moments" and crops.sharpness < 1:
        yield f"crops.sharpness: {crops.sharpness} has no finite gradient for joint; give 1 or more"
    if crops.box_method == "moments" and config.trainer.deterministic and config.trainer.accelerator != "cpu":
        yield (
            "trainer.deterministic: a crop's gradient is not deterministic on a GPU; "
            "give crops.box_method=peak or trainer.accelerator=cpu"
        )


def _missing_sources(config: Config, card: dict[str, Any] | None) -> Iterator[str]:
    stages, streams = config.stages, config.estimator.streams
    borrowing = [name for name in streams if getattr(config.estimator, name).weights == "locator"]
    given = config.locator.checkpoint or config.weights
    if "estimator" in stages and "locator" not in stages and not given and (borrowing or set(streams) & set(REGIONS)):
        yield "stages: the estimator needs a locator; add locator to stages, or give locator.checkpoint or weights"
    for name in borrowing if "locator" in stages else ():
        if (own := getattr(config.estimator, name).name) != config.locator.backbone.name:
            yield (
                f"estimator.{name}.weights: locator has the weights of {config.locator.backbone.name}, "
                f"but estimator.{name}.name is {own}; make both names the same"
            )
    if "joint" in stages and "estimator" not in stages and not (config.joint.start or config.weights):
        yield "stages: joint needs an estimator; add estimator to stages, or give joint.start or weights"
    if config.crops.cam_mode == "class" and config.locator.head != "distribution" and not given:
        yield "crops.cam_mode: class needs bins of age; give locator.head=distribution"
    if card is not None and card["stage"] == "locator" and stages != ["locator"]:
        yield f"weights: {config.weights} holds a locator alone; give it as locator.checkpoint, or give stages=[locator]"
    if card is not None and not has_locator(card) and "locator" in stages:
        yield f"weights: {config.weights} holds no locator, it reads the whole radiograph; remove locator from stages"
