"""Heat maps: where a locator's evidence for its age lies, by captum.

Grad-CAM: Selvaraju et al., ICCV 2017, https://arxiv.org/abs/1610.02391. Gradient times activation, cell by cell: HiResCAM of
Draelos and Carin 2020, https://arxiv.org/abs/2011.08891. Unlike Grad-CAM it does not average the gradient over the cells, so it
can be read at middle layers too, where a cell still shows its own part of the hand.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from baa.errors import InputError
from baa.nets.backbone import FeatureMap, GrayImage
from baa.nets.heads import AgeHead, AgePrediction, full_precision
from baa.nets.locator import Locator, PooledAgeHead

HeatMap = Float[Tensor, "batch rows columns"]

CAM_METHODS = ("grad_cam", "gradient_x_activation")
CAM_MODES = ("relu", "absolute", "deviation", "class")
"""How signed evidence becomes a heat map.

`relu`: evidence for an older hand (Grad-CAM as published). `absolute`: evidence of either sign. `deviation`: evidence for the
hand's own side of the mean age. `class`: evidence for the likeliest bin of a distribution head.
"""

DifferentiablePart = Literal["none", "map", "weights"]
"""Which part of a heat map a loss on it reaches: nothing; the features, with constant gradients as weights; or both."""


class Attribution(NamedTuple):
    """Settings for reading a heat map from a locator.

    method: `grad_cam`, of the last feature map F'' (the paper), or `gradient_x_activation`. mode: one of `CAM_MODES`.
    layers: that `gradient_x_activation` reads, in the network's order, each a stride (its last layer) or a name of timm's; each
    map is divided by its mean, then they are added.
    smoothing: standard deviation of a Gaussian filter of the map, as a share of its side; 0 for none.
    """

    method: str = "grad_cam"
    mode: str = "relu"
    layers: Sequence[str] = ("8", "16")
    smoothing: float = 0.0


PUBLISHED = Attribution()
"""The paper's reading: Grad-CAM of the last layer, evidence for an older hand."""


def locator_heat_map(
    locator: Locator,
    image: GrayImage,
    attribution: Attribution,
    differentiable: DifferentiablePart = "none",
    *,
    flip_average: bool = False,
) -> HeatMap:
    """Compute a locator's heat map by `gradient_x_activation`, not negative, on the grid of its finest layer, not smoothed.

    One forward and one backward pass for all layers, by captum. The backward pass ends at the first of these layers. The
    locator may be frozen, and the caller may be under `no_grad` or `inference_mode`.

    Args:
        locator: in eval mode.
        image: [B, 1, px, px].
        attribution: which layers are read, and how.
        differentiable: which part of the map can be differentiated.
        flip_average: average the maps of the image and its mirror image.

    Returns:
        [B, h, w], with h and w of the finest layer.

    Raises:
        InputError: `mode` is `class` and the head has no classes, or the backbone has no such layer.
    """
    _refuse(locator.head.age, attribution.mode)
    with torch.inference_mode(False), torch.enable_grad():
        image = image.clone() if image.is_inference() else image  # which cannot take part in a backward pass
        both = torch.cat([image, image.flip(-1)]) if flip_average else image
        maps = _layer_maps(locator, both, attribution, differentiable)
        if flip_average:
            first, mirrored = maps.unflatten(0, (2, -1)).unbind()
            maps = (first + mirrored.flip(-1)) / 2
        return maps


def _layer_maps(locator: Locator, image: GrayImage, attribution: Attribution, differentiable: DifferentiablePart) -> HeatMap:
    predictions: list[AgePrediction] = []
    # Without the parameters' gradients nothing is kept for a backward pass before the first layer: a third less time.
    constants = {name: parameter.detach() for name, parameter in locator.named_parameters() if parameter.requires_grad}

    def score(image: Tensor) -> Tensor:
        free = differentiable != "none" or not constants
        predictions.append(locator(image) if free else functional_call(locator, constants, (image,)))
        return _score(predictions[-1], attribution.mode).sum()[None]  # one backward pass, whatever the batch

    layers: list[nn.Module] = [locator.layer(name) for name in attribution.layers]
    how = {"create_graph": differentiable == "weights", "retain_graph": differentiable != "none"}
    evidence = LayerGradientXActivation(score, layers).attribute(image, grad_kwargs=how)
    months, age = predictions[-1].months.detach(), locator.head.age
    maps = [_attention(full_precision(one).sum(dim=1), months, age, attribution.mode) for one in evidence]
    fused = fuse(maps)
    return fused.detach() if differentiable == "none" else fused


def fuse(maps: Sequence[Float[Tensor, "batch _ _"]]) -> HeatMap:
    """Add maps on the grid of the first, each divided by its mean.

    Shapes:
        maps [B, h_i, w_i] of any sizes -> [B, h_0, w_0]
    """
    scaled = [one / one.mean(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(one.dtype).tiny) for one in maps]
    side = scaled[0].shape[1:]
    total = scaled[0]
    for one in scaled[1:]:
        total = total + F.interpolate(one[:, None], size=side, mode="bilinear", align_corners=False)[:, 0]
    return total


class GaussianFilter(nn.Module):
    """Filter heat maps with a Gaussian, reflected at the border. kornia's filter cannot be exported.

    Args:
        sigma: standard deviation, a share of the map's side.
        cells: per side of the maps.

    Shapes:
        [B, cells, cells] -> [B, cells, cells]
    """

    weights: Tensor

    def __init__(self, sigma: float, cells: int) -> None:
        super().__init__()
        self.reach = min(round(3 * sigma * cells), cells - 1)  # cells that reflect
        distance = torch.arange(-self.reach, self.reach + 1.0) / (sigma * cells)
        self.register_buffer("weights", (-distance.square() / 2).softmax(dim=0), persistent=False)

    def forward(self, heat: HeatMap) -> HeatMap:
        padded = F.pad(heat[:, None], [self.reach] * 4, mode="reflect")
        rows = F.conv2d(padded, self.weights.view(1, 1, 1, -1))
        return F.conv2d(rows, self.weights.view(1, 1, -1, 1))[:, 0]


def grad_cam(head: PooledAgeHead, features: FeatureMap, mode: str, differentiable: DifferentiablePart = "none") -> HeatMap:
    """Compute the Grad-CAM heat map of the head's age, not negative, on the feature grid.

    The gradient starts at the feature map. Unless `differentiable` asks for more, the backbone needs no gradient, may be
    frozen, and the caller may be under `no_grad`, `inference_mode` or autocast. No hook and no gradient is left behind.

    Args:
        head: the locator's head, in eval mode.
        features: the locator's F'' [B, C, h, w]; with a graph if `differentiable` is not `none`.
        mode: one of `CAM_MODES`.
        differentiable: which part of the map can be differentiated.

    Returns:
        [B, h, w]

    Raises:
        InputError: `mode` is `class` and the head has no classes.
    """
    _refuse(head.age, mode)

    def score(features: Tensor) -> Tensor:
        return _score(head(features), mode)

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
        months = head(features).months
    return _attention(evidence, months, head.age, mode)


def closed_form_grad_cam(head: PooledAgeHead, features: FeatureMap, mode: str) -> HeatMap:
    """Compute `grad_cam` without autograd, for exported graphs.

    A head that is one linear layer on an average has the same gradient in every cell: a row of its weights, divided by the
    number of cells.

    Args:
        head: the locator's head, in eval mode.
        features: the locator's F'' [B, C, h, w].
        mode: one of `CAM_MODES`.

    Returns:
        [B, h, w]

    Raises:
        InputError: the head has a hidden layer, or `mode` is `class` and the head has no classes.
    """
    _refuse(head.age, mode)
    linear = [layer for layer in head.age.layers if isinstance(layer, nn.Linear)]
    if len(linear) > 1:
        raise InputError("the locator's head has a hidden layer: its heat map has no closed form")
    features, weight = full_precision(features), full_precision(linear[0].weight)
    prediction = head(features)
    if prediction.logits is None:
        rows = (weight * head.age.std_months).expand(features.shape[0], -1)
    elif mode == "class":
        rows = weight[prediction.logits.argmax(dim=1)]
    else:
        shares = prediction.logits.softmax(dim=1)
        rows = (shares * (head.age.bins - prediction.months[:, None])) @ weight
    evidence = torch.einsum("bchw,bc->bhw", features, rows) / features[0, 0].numel()
    return _attention(evidence, prediction.months, head.age, mode)


def _refuse(head: AgeHead, mode: str) -> None:
    if mode == "class" and head.kind != "distribution":
        raise InputError(f"crops.cam_mode: class needs locator.head=distribution, this locator's head is {head.kind}")


def _score(prediction: AgePrediction, mode: str) -> Float[Tensor, " batch"]:
    """Return what the evidence is for: the age, or the likeliest bin's logit."""
    if mode != "class":
        return prediction.months
    assert prediction.logits is not None
    return prediction.logits.amax(dim=1)


def _attention(evidence: HeatMap, months: Float[Tensor, " batch"], head: AgeHead, mode: str) -> HeatMap:
    """Turn signed evidence into a map that is not negative."""
    if mode == "absolute":
        return evidence.abs()
    if mode == "deviation":
        older = months >= head.mean_months
        evidence = torch.where(older[:, None, None], evidence, -evidence)
    return evidence.relu()
