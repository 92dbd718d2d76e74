"""What the types of the schema cannot say: ranges, and settings that do not go together."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from baa.config.schema import Config
from baa.errors import InputError

STAGES = ("locator", "estimator", "joint")
STREAMS = ("carpal", "hand", "whole")
SEX_PLACES = ("projected", "fused", "joined")

SHARES = ("smallest", "largest", "typical")
"""Of the settings of boxes, those that are shares of the image."""

SMALLEST_RATE = 1e-12
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "data.phantom.count": (1, math.inf),
    "data.phantom.seed": (0, math.inf),
    "data.source_px": (32, math.inf),
    "data.workers": (0, math.inf),
    "data.balance": (0, 1),
    "data.hide_sex": (0, 1),
    "data.limit": (1, math.inf),
    "data.augment.degrees": (0, 180),
    "data.augment.scale": (0, 0.9),
    "data.augment.shift": (0, 1),
    "data.augment.contrast": (0, 1),
    "data.augment.brightness": (0, 1),
    "data.augment.flip": (0, 1),
    "locator.px": (32, math.inf),
    "locator.dropout": (0, 1),
    "locator.erase": (0, 1),
    "crops.threshold": (0, 1),
    "crops.margin": (0, 0.5),
    "crops.sharpness": (0.01, math.inf),
    "crops.floor": (0, math.inf),
    "estimator.whole_px": (32, math.inf),
    "estimator.fusion.width": (1, math.inf),
    "estimator.fusion.exchange": (0, 1),
    "estimator.fusion.sparsity": (0, math.inf),
    "estimator.hidden": (0, math.inf),
    "estimator.dropout": (0, 1),
    "estimator.auxiliary": (0, math.inf),
    "estimator.erase": (0, 1),
    "joint.locator_lr": (0, math.inf),
    "joint.locator_weight": (0, math.inf),
    "joint.locator_frozen": (0, math.inf),
    "joint.estimator_frozen": (0, math.inf),
    "joint.erase": (0, 1),
    "trainer.num_nodes": (1, math.inf),
    "trainer.timeout": (0.1, math.inf),
    **{
        f"{stage}.fit.{setting}": limits
        for stage in STAGES
        for setting, limits in {
            "epochs": (1, math.inf),
            "batch_size": (2, math.inf),  # batch norm has nothing to say of one
            "accumulate": (1, math.inf),
            "lr": (SMALLEST_RATE, math.inf),
            "weight_decay": (0, math.inf),
            "clip": (SMALLEST_RATE, math.inf),
            "ema": (0, 1 - SMALLEST_RATE),
            "warmup": (0, 1),
            "grow_from": (0.25, 1),
            "epoch_steps": (1, math.inf),
        }.items()
    },
}


def check(config: Config) -> None:
    """Refuse what cannot be.

    Raises:
        InputError: a setting out of its range, or settings that do not go together.
    """
    problems = list(_out_of_range(config))
    for setting, chosen, known in (
        ("stages", config.stages, STAGES),
        ("estimator.streams", config.estimator.streams, STREAMS),
        ("estimator.fusion.sex_at", config.estimator.fusion.sex_at or ["fused"], SEX_PLACES),
    ):
        if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
            problems.append(f"{setting} is {chosen}; it takes each of {', '.join(known)} at most once, and at least one")
    if not problems and config.stages != [stage for stage in STAGES if stage in config.stages]:
        problems.append(f"stages is {config.stages}; their order is {', '.join(STAGES)}")
    if "joint" in config.stages:
        if not set(config.estimator.streams) - {"whole"}:
            problems.append("stages: joint needs crops between its networks; estimator.streams has none")
        if config.joint.fit.grow_from < 1:
            problems.append("joint.fit.grow_from: joint trains at full size, it takes 1")
        if config.crops.rule == "moments":
            if config.crops.sharpness < 1:
                problems.append(f"crops.sharpness is {config.crops.sharpness}; joint differentiates it and takes 1 or more")
            if config.trainer.deterministic and config.trainer.accelerator != "cpu":
                problems.append(
                    "trainer.deterministic: joint needs crops.rule=peak, or trainer.accelerator=cpu (a crop's gradient)"
                )
    if config.locator.backbone.weights == "locator":
        problems.append("locator.backbone.weights is locator; it has none of its own yet, take imagenet, none, or a file")
    for stage in STAGES:
        fit = getattr(config, stage).fit
        if fit.schedule == "onecycle" and fit.warmup == 1:
            problems.append(f"{stage}.fit.warmup is 1; one cycle also falls, it takes less")
    split = config.data.split
    if not (split.val > 0 and split.test >= 0 and split.val + split.test < 1):
        problems.append(f"data.split: val={split.val} and test={split.test} leave nothing to train on, or nothing to choose by")
    if not re.fullmatch(r"auto|[1-9]\d*", config.trainer.devices):
        problems.append(f"trainer.devices is {config.trainer.devices}; it takes auto or how many, 1 or more")
    crops = config.crops
    for setting in ("extents", "smallest", "largest", "typical", "spreads"):
        pair = getattr(crops, setting)
        most = 1.0 if setting in SHARES else math.inf
        if len(pair) != 2 or min(pair) < 0 or max(pair) > most or (setting != "spreads" and min(pair) == 0):
            limit = " up to 1" if setting in SHARES else ""
            problems.append(f"crops.{setting} is {pair}; it takes two numbers above 0{limit}, carpal and hand")
    if len(crops.px) != 2 or min(crops.px) < 32:
        problems.append(f"crops.px is {crops.px}; it takes two sides of at least 32 pixels, carpal and hand")
    if [len(centre) for centre in crops.centres] != [2, 2]:
        problems.append(f"crops.centres is {crops.centres}; it takes [[x, y], [x, y]], carpal and hand")
    if not problems and any(low > high for low, high in zip(crops.smallest, crops.largest, strict=True)):
        problems.append(f"crops.smallest is {crops.smallest}, above crops.largest, {crops.largest}")
    if problems:
        raise InputError("; ".join(problems))


def check_sources(config: Config, card: Mapping[str, Any] | None) -> None:
    """Refuse a run whose networks would come from nowhere.

    Args:
        config: of a run to begin.
        card: of the model that `weights` names.

    Raises:
        InputError: a stage starts from another that is neither trained nor given.
    """
    problems = []
    borrowing = [name for name in config.estimator.streams if getattr(config.estimator, name).weights == "locator"]
    crops = set(config.estimator.streams) - {"whole"}
    given = config.locator.checkpoint or config.weights
    if "estimator" in config.stages and (crops or borrowing) and "locator" not in config.stages and not given:
        problems.append(
            f"estimator.streams {'has crops' if crops else 'takes weights'} from a locator but no stage trains one; "
            "add it to stages, or give locator.checkpoint or weights"
        )
    for name in borrowing if "locator" in config.stages else ():
        if (own := getattr(config.estimator, name).name) != config.locator.backbone.name:
            problems.append(f"estimator.{name}.weights=locator: {name} is {own}, the locator {config.locator.backbone.name}")
    if "joint" in config.stages and "estimator" not in config.stages and not (config.joint.start or config.weights):
        problems.append("stages: joint starts from an estimator; add that to stages, or give joint.start or weights")
    if config.crops.reading == "class" and config.locator.head != "distribution" and not given:
        problems.append("crops.reading=class needs locator.head=distribution")
    if card is not None and card["stage"] == "locator" and config.stages != ["locator"]:
        problems.append(f"weights: {config.weights} holds a locator alone; take it as locator.checkpoint, or stages=[locator]")
    if card is not None and not card["locator"] and "locator" in config.stages:
        problems.append(f"weights: {config.weights} reads the whole hand, it holds no locator; take locator out of stages")
    if problems:
        raise InputError("; ".join(problems))


def _out_of_range(config: Config) -> Iterator[str]:
    for setting, (low, high) in RANGES.items():
        value: Any = config
        for name in setting.split("."):
            value = getattr(value, name)
        if value is not None and not low <= value <= high:
            limits = f"from {low} to {high}" if high < math.inf else f"{low} or more"
            yield f"{setting} is {value}; it takes {limits}"
