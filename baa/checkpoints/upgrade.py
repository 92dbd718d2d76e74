"""Read bundles of format 1, which named tensors, settings and networks differently."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from baa.config.renamed import upgrade_settings
from baa.model_card import FORMAT

Value = TypeVar("Value")
OLD_FORMAT = 1

TENSORS = (
    (r"^module\.cropper\.locator\.", "locator."),
    (r"^module\.(estimator\.)?net\.(exchange|weights|gates)\b", r"estimator.fusion.\2"),
    (r"^module\.(estimator\.)?net\.", "estimator."),
    (r"^recogniser\.", "input_check."),
    (r"^seen$", "seen_ids"),
)
FUSION = {
    "width": "width",
    "exchange_mode": "mode",
    "exchange": "exchange",
    "exchange_learnt": "exchange_learned",
    "stream_weights": "weights",
    "weights_learnt": "weights_learned",
    "sex_at": "sex_at",
    "alpha_image": "alpha_image",
    "alpha_sex": "alpha_sex",
    "alpha_learnt": "alpha_learned",
}
"""Arguments of the old estimator that `Fusion` takes now, and their names there."""


def upgrade_tensors(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Rename the tensors of a bundle of format 1, or what stands for them."""
    locator_only = not any(name.startswith("module.") and ".exchange." in name for name in tensors)
    renamed = {}
    for name, tensor in tensors.items():
        if locator_only:
            name = re.sub(r"^module\.net\.", "locator.", name)
        for pattern, new in TENSORS:
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    return renamed


def upgrade_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the settings and the networks' arguments in a card of format 1."""
    old = card["networks"]
    networks = {}
    if card["locator"]:
        networks["locator"] = {name: value for name, value in card["locator"].items() if name != "dropout"}
    if card["stage"] != "locator":
        module = old.get("estimator") or old
        estimator = dict(module["net"])
        fusion = {new: estimator.pop(name) for name, new in FUSION.items() if name in estimator}
        networks["estimator"] = estimator | {"fusion": fusion | {"sparsity": module["sparsity"]}}
    others = {name: value for name, value in card.items() if name not in ("locator", "networks", "settings", "format")}
    return others | {"format": FORMAT, "networks": networks, "settings": upgrade_settings(card["settings"])}
