"""Grad-CAM of the predicted age: where a locator looked.

Selvaraju et al., "Grad-CAM", ICCV 2017, https://arxiv.org/abs/1610.02391, by captum.
"""

from typing import Literal

import torch
from captum.attr import LayerGradCam
from jaxtyping import Bool, Float
from torch import Tensor, nn

from baa.errors import InputError
from baa.nets.backbone import FeatureMap
from baa.nets.heads import full_precision
from baa.nets.locator import PooledAgeHead

HeatMap = Float[Tensor, "batch rows columns"]

READINGS = ("relu", "absolute", "deviation", "class")
"""How a map of signed evidence becomes attention.

`relu`: evidence for an older hand, as Grad-CAM is written. `absolute`: evidence for either. `deviation`: evidence for
the side of the mean age that the hand is on. `class`: evidence for the most likely bin of a distribution head.
"""


Graph = Literal["none", "map", "weights"]
"""What of Grad-CAM a loss on the map reaches: nothing; the features, their channel weights being constants; or both."""


def heat_map(head: PooledAgeHead, features: FeatureMap, reading: str, graph: Graph = "none") -> HeatMap:
    """Where the head's answer comes from, not negative, on the feature grid.

    The gradient starts at the feature map: unless a graph is asked for, the trunk needs none, may be frozen, and the caller
    may be under `no_grad`, `inference_mode` or autocast. No hook and no gradient is left behind.

    Args:
        head: the locator's head, in eval mode.
        features: the locator's F'' [B, C, h, w].
        reading: one of `READINGS`.
        graph: how far the map can be differentiated; more than `none` needs features that carry a graph.

    Raises:
        InputError: the `class` reading of a head without classes.
    """
    _refuse(head, reading)

    def score(features: Tensor) -> Tensor:
        prediction = head(features)
        return prediction.logits.amax(dim=1) if reading == "class" else prediction.months

    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(features.device.type, enabled=False),
    ):
        features = full_precision(features)
        start = features.detach().clone().requires_grad_() if graph == "none" else features
        evidence = LayerGradCam(score, head.pool).attribute(
            start, attribute_to_layer_input=True, grad_kwargs={"create_graph": graph == "weights"}
        )
        evidence = (evidence.detach() if graph == "none" else evidence)[:, 0]  # B h w
    with torch.no_grad():
        older = head(features).months >= head.age.mean_months
    return _attention(evidence, older, reading)


def closed_heat_map(head: PooledAgeHead, features: FeatureMap, reading: str) -> HeatMap:
    """`heat_map` without autograd, for graphs that are exported: of a head that is one linear layer on an average.

    The gradient of its score is then the same in every cell, a row of weights over the number of cells.

    Args:
        head: the locator's head, in eval mode.
        features: the locator's F'' [B, C, h, w].
        reading: one of `READINGS`.

    Raises:
        InputError: the head has a hidden layer, or `reading` is `class` and it has no classes.
    """
    _refuse(head, reading)
    linear = [layer for layer in head.age.layers if isinstance(layer, nn.Linear)]
    if len(linear) > 1:
        raise InputError("this locator's head has a hidden layer: its heat map has no closed form")
    features, weight = full_precision(features), full_precision(linear[0].weight)
    prediction = head(features)
    if prediction.logits is None:
        rows = (weight * head.age.std_months).expand(features.shape[0], -1)
    elif reading == "class":
        rows = weight[prediction.logits.argmax(dim=1)]
    else:
        shares = prediction.logits.softmax(dim=1)
        rows = (shares * (head.age.bins - prediction.months[:, None])) @ weight
    evidence = torch.einsum("bchw,bc->bhw", features, rows) / features[0, 0].numel()
    return _attention(evidence, prediction.months >= head.age.mean_months, reading)


def _refuse(head: PooledAgeHead, reading: str) -> None:
    if reading == "class" and head.age.kind != "distribution":
        raise InputError(f"crops.reading: class needs locator.head=distribution, this locator's is {head.age.kind}")


def _attention(evidence: HeatMap, older: Bool[Tensor, " batch"], reading: str) -> HeatMap:
    """What a reading makes of signed evidence, not negative."""
    if reading == "absolute":
        return evidence.abs()
    if reading == "deviation":
        evidence = torch.where(older[:, None, None], evidence, -evidence)
    return evidence.relu()
