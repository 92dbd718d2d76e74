"""Grad-CAM of the predicted age.

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

CAM_MODES = ("relu", "absolute", "deviation", "class")
"""How signed evidence becomes a heat map.

`relu`: evidence for an older hand (Grad-CAM as published). `absolute`: evidence of either sign. `deviation`: evidence for the
hand's own side of the mean age. `class`: evidence for the likeliest bin of a distribution head.
"""


DifferentiablePart = Literal["none", "map", "weights"]
"""Which part of Grad-CAM a loss on the map reaches: nothing; the features, with constant channel weights; or both."""


def heat_map(head: PooledAgeHead, features: FeatureMap, cam_mode: str, differentiable: DifferentiablePart = "none") -> HeatMap:
    """Compute the Grad-CAM heat map of the head's age, not negative, on the feature grid.

    The gradient starts at the feature map. Unless `differentiable` asks for more, the backbone needs no gradient, may be
    frozen, and the caller may be under `no_grad`, `inference_mode` or autocast. No hook and no gradient is left behind.

    Args:
        head: the locator's head, in eval mode.
        features: the locator's F'' [B, C, h, w]; with a graph if `differentiable` is not `none`.
        cam_mode: one of `CAM_MODES`.
        differentiable: which part of the map can be differentiated.

    Raises:
        InputError: `cam_mode` is `class` and the head has no classes.
    """
    _refuse(head, cam_mode)

    def score(features: Tensor) -> Tensor:
        prediction = head(features)
        return prediction.logits.amax(dim=1) if cam_mode == "class" else prediction.months

    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(features.device.type, enabled=False),
    ):
        features = full_precision(features)
        start = features.detach().clone().requires_grad_() if differentiable == "none" else features
        evidence = LayerGradCam(score, head.pool).attribute(
            start, attribute_to_layer_input=True, grad_kwargs={"create_graph": differentiable == "weights"}
        )
        evidence = (evidence.detach() if differentiable == "none" else evidence)[:, 0]  # B h w
    with torch.no_grad():
        older = head(features).months >= head.age.mean_months
    return _attention(evidence, older, cam_mode)


def closed_form_heat_map(head: PooledAgeHead, features: FeatureMap, cam_mode: str) -> HeatMap:
    """Compute `heat_map` without autograd, for exported graphs.

    A head that is one linear layer on an average has the same gradient in every cell: a row of its weights, divided by the
    number of cells.

    Args:
        head: the locator's head, in eval mode.
        features: the locator's F'' [B, C, h, w].
        cam_mode: one of `CAM_MODES`.

    Raises:
        InputError: the head has a hidden layer, or `cam_mode` is `class` and the head has no classes.
    """
    _refuse(head, cam_mode)
    linear = [layer for layer in head.age.layers if isinstance(layer, nn.Linear)]
    if len(linear) > 1:
        raise InputError("the locator's head has a hidden layer: its heat map has no closed form")
    features, weight = full_precision(features), full_precision(linear[0].weight)
    prediction = head(features)
    if prediction.logits is None:
        rows = (weight * head.age.std_months).expand(features.shape[0], -1)
    elif cam_mode == "class":
        rows = weight[prediction.logits.argmax(dim=1)]
    else:
        shares = prediction.logits.softmax(dim=1)
        rows = (shares * (head.age.bins - prediction.months[:, None])) @ weight
    evidence = torch.einsum("bchw,bc->bhw", features, rows) / features[0, 0].numel()
    return _attention(evidence, prediction.months >= head.age.mean_months, cam_mode)


def _refuse(head: PooledAgeHead, cam_mode: str) -> None:
    if cam_mode == "class" and head.age.kind != "distribution":
        raise InputError(f"crops.cam_mode: class needs locator.head=distribution, this locator's head is {head.age.kind}")


def _attention(evidence: HeatMap, older: Bool[Tensor, " batch"], cam_mode: str) -> HeatMap:
    """Turn signed evidence into a map that is not negative."""
    if cam_mode == "absolute":
        return evidence.abs()
    if cam_mode == "deviation":
        evidence = torch.where(older[:, None, None], evidence, -evidence)
    return evidence.relu()
