"""Settings of earlier versions: refused in files and on the command line, translated in trained models."""

import copy
from collections.abc import Iterator
from typing import Any

from baa.config.schema import STAGES

_OF_EACH_STAGE = {
    "erase": "random_erasing_p",
    "fit.accumulate": "fit.accumulate_grad_batches",
    "fit.clip": "fit.gradient_clip_val",
    "fit.grow_from": "fit.progressive_resize_from",
}
_OF_EACH_REGION = {
    "px": "px",
    "extents": "extent",
    "centres": "prior_center",
    "spreads": "prior_sigma",
    "smallest": "min_side",
    "largest": "max_side",
    "typical": "fallback_side",
}

RENAMED: dict[str, tuple[str, ...]] = {
    "data.hide_sex": ("data.sex_dropout",),
    "crops.reading": ("crops.cam_mode",),
    "crops.rule": ("crops.box_method",),
    "crops.centres_from": ("crops.prior_origin",),
    "crops.cam_flip_average": ("crops.carpal.flip_average", "crops.hand.flip_average"),
    "crops.floor": ("crops.prior_floor",),
    "estimator.fusion.exchange_learnt": ("estimator.fusion.exchange_learned",),
    "estimator.fusion.weights_learnt": ("estimator.fusion.weights_learned",),
    "estimator.fusion.alpha_learnt": ("estimator.fusion.alpha_learned",),
    "trainer.recompute": ("trainer.gradient_checkpointing",),
    **{f"{stage}.{old}": (f"{stage}.{new}",) for stage in STAGES for old, new in _OF_EACH_STAGE.items()},
    **{f"{stage}.fit.epoch_steps": ("trainer.limit_train_batches",) for stage in STAGES},
    **{f"crops.{old}": tuple(f"crops.{name}.{new}" for name in ("carpal", "hand")) for old, new in _OF_EACH_REGION.items()},
}
"""Old key to new keys. An old key with two new ones held a list of two values, one per region, or one value for both."""

REMOVED = {
    "trainer.strategy": "DDP is used whenever there are several processes",
    "locator.dropout": "the locator has no dropout",
    "locator.backbone.conv_pool": "only the streams of the estimator have it",
}
"""Old key to the reason why there is no new one."""

VALUES: dict[str, dict[str, str]] = {
    "crops.boxes": {"remembered": "cached"},
    "crops.prior_origin": {"look": "heat_map"},
}
"""New key to its renamed values: old to new."""


def outdated(settings: dict[Any, Any]) -> Iterator[str]:
    """What to change in settings that use names of an earlier version: one sentence each.

    Args:
        settings: nested, as read from a file or an override; any part of the schema.
    """
    for old, new in RENAMED.items():
        if _group_with(settings, old) is not None:
            yield f"{old} was {'renamed to' if len(new) == 1 else 'split into'} {' and '.join(new)}"
    for old, reason in REMOVED.items():
        if _group_with(settings, old) is not None:
            yield f"{old} was removed: {reason}"
    for key, renamed in VALUES.items():
        for old_value, new_value in renamed.items():
            if (group := _group_with(settings, key)) is not None and group[_last(key)] == old_value:
                yield f"{key}: {old_value} was renamed to {new_value}"


def upgrade_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Translate the plain settings of a model that an earlier version trained. Current settings are returned unchanged.

    Args:
        settings: nested, whole or in part.
    """
    upgraded = copy.deepcopy(settings)
    for old, new in RENAMED.items():
        if (group := _group_with(upgraded, old)) is None:
            continue
        values = group[_last(old)]
        if len(new) == 1 or not isinstance(values, list):
            values = [values] * len(new)
        if len(values) != len(new):
            continue  # `load` refuses it
        del group[_last(old)]
        for key, item in zip(new, values, strict=True):
            *above, last = key.split(".")
            target = upgraded
            for name in above:
                target = target.setdefault(name, {})
            if target.get(last) is None:
                target[last] = item
    for old in REMOVED:
        if (group := _group_with(upgraded, old)) is not None:
            del group[_last(old)]
    for key, renamed in VALUES.items():
        for old_value, new_value in renamed.items():
            if (group := _group_with(upgraded, key)) is not None and group[_last(key)] == old_value:
                group[_last(key)] = new_value
    return upgraded


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _group_with(settings: Any, key: str) -> dict[Any, Any] | None:
    """The group that holds a dotted key; None where the key is absent."""
    *above, last = key.split(".")
    for name in above:
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings if isinstance(settings, dict) and last in settings else None
