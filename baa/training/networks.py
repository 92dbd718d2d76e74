"""Settings to networks: each stage's module, its weights to start from, and what its cropper is told."""

from pathlib import Path
from typing import Any

from torch import nn

from baa.errors import InputError
from baa.nets.backbones import Backbone, load_weights
from baa.schema import Config, Optimisation
from baa.training.checkpoints import restore
from baa.training.joint import JointModule
from baa.training.modules import AgeModule, EstimatorModule, LocatorModule
from baa.training.precision import HALF


def locator_module(config: Config, scale: dict[str, float]) -> LocatorModule:
    """Stage 1 as `config.locator` says; `scale` holds mean and deviation of the training ages."""
    c = config.locator
    net = {
        "backbone": c.backbone.name,
        "px": c.px,
        "attention": c.attention,
        "head": c.head,
        "dropout": c.dropout,
        **scale,
    }
    return LocatorModule(net, optimisation(c.fit))


def estimator_module(config: Config, scale: dict[str, float]) -> EstimatorModule:
    """Stage 2 as `config.estimator` says; `scale` holds mean and deviation of the training ages."""
    c = config.estimator
    streams = {name: getattr(c, name) for name in c.streams}
    net = {
        "backbones": {name: backbone.name for name, backbone in streams.items()},
        "conv_pool": [name for name, backbone in streams.items() if backbone.conv_pool],
        "width": c.fusion.width,
        "exchange_mode": c.fusion.mode,
        "exchange": c.fusion.exchange,
        "exchange_learnt": c.fusion.exchange_learnt,
        "stream_weights": vars(c.fusion.weights),
        "weights_learnt": c.fusion.weights_learnt,
        "sex_at": list(c.fusion.sex_at),
        "alpha_image": c.fusion.alpha_image,
        "alpha_sex": c.fusion.alpha_sex,
        "alpha_learnt": c.fusion.alpha_learnt,
        "head": c.head,
        "hidden": c.hidden,
        "dropout": c.dropout,
        "auxiliary": c.auxiliary > 0,
        **scale,
    }
    return EstimatorModule(
        net,
        optimisation(c.fit),
        whole_px=c.whole_px,
        sparsity=c.fusion.sparsity,
        auxiliary=c.auxiliary,
        flip_average=c.flip_average,
    )


def joint_module(config: Config, start: Path) -> JointModule:
    """Stage 3 as `config.joint` says, with the weights of an estimator's checkpoint and of the locator that it carries.

    Raises:
        InputError: `start` is no estimator's checkpoint, or reads no crops.
    """
    c, begun = config.joint, restore(start)
    if not isinstance(begun.module, EstimatorModule) or begun.locator is None:
        raise InputError(f"joint.start: {start} is no checkpoint of an estimator that reads crops")
    graph = "weights" if c.channel_weights == "differentiated" else "map"
    module = JointModule(
        dict(begun.locator_arguments),
        crop_arguments(config) | {"graph": graph},
        dict(begun.module.hparams),
        optimisation(c.fit),
        locator_lr=c.locator_lr,
        locator_weight=c.locator_weight,
        locator_loss=config.locator.fit.loss,
        frozen_statistics=c.frozen_statistics,
        frozen_groups=(c.locator_frozen, c.estimator_frozen),
    )
    module.estimator.load_state_dict(begun.module.state_dict())
    module.cropper.locator.load_state_dict(begun.locator.state_dict())
    return module


def optimisation(fit: Optimisation) -> dict[str, Any]:
    """The settings of a fit as arguments of `AgeModule`."""
    return {
        "loss": fit.loss,
        "optimizer": fit.optimizer,
        "lr": fit.lr,
        "weight_decay": fit.weight_decay,
        "schedule": fit.schedule,
        "warmup": fit.warmup,
    }


def start_from(weights: str) -> Path | None:
    """What `restore` makes of the setting `weights`."""
    return None if weights == "pretrained" else Path(weights)


def settings_of_networks(weights: str) -> dict[str, Any]:
    """What a trained model says of its own networks, to start from it: neither how it was trained, nor on what.

    Raises:
        InputError: no such model.
    """
    settings = restore(start_from(weights)).settings
    chosen = {group: dict(settings[group]) for group in ("locator", "crops", "estimator")}
    for group in ("locator", "estimator"):
        del chosen[group]["fit"]
    chosen["locator"]["checkpoint"] = None
    return chosen


def take_weights(module: AgeModule, config: Config, locator: Path) -> None:
    """Fill a module with the weights that the config names, in place: all of it, or its backbones.

    Args:
        module: fresh.
        config: `weights`, or those of each backbone.
        locator: the model whose locator a backbone may take its weights from.

    Raises:
        InputError: weights that are not there, or do not fit.
    """
    if config.weights and not isinstance(module, JointModule):
        _take_all(module, config.weights)
    elif isinstance(module, LocatorModule):
        load_weights(module.net.backbone, config.locator.backbone.weights)
    elif isinstance(module, EstimatorModule):
        for name in config.estimator.streams:
            backbone = module.net.stream(name).backbone
            weights = getattr(config.estimator, name).weights
            if weights == "locator":
                _learn_from(locator, backbone, name)
            else:
                load_weights(backbone, weights)


def _learn_from(file: Path, backbone: Backbone, stream: str) -> None:
    locator = restore(file).locator
    if locator is None or locator.backbone.name != backbone.name:
        found = "none" if locator is None else locator.backbone.name
        raise InputError(f"estimator.{stream}.weights=locator: {stream} is {backbone.name}, the locator of {file} {found}")
    backbone.load_state_dict(locator.backbone.state_dict())


def _take_all(module: AgeModule, weights: str) -> None:
    begun = restore(start_from(weights))
    own: nn.Module
    given: nn.Module | None
    own, given = module, begun.module.estimator if isinstance(begun.module, JointModule) else begun.module
    if isinstance(module, LocatorModule):
        own, given = module.net, begun.locator
    if type(given) is not type(own):
        raise InputError(f"weights: {weights} is a model of the {begun.stage}, it holds nothing for this stage to start from")
    try:
        own.load_state_dict(given.state_dict())
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(
            f"weights: {weights} does not fit the networks that the config asks for ({first}); leave their settings out"
        ) from error


def recompute_backbones(module: nn.Module) -> None:
    """Spend time for memory in every backbone, in place."""
    for part in module.modules():
        if isinstance(part, Backbone):
            part.recompute()


def crop_arguments(config: Config) -> dict[str, Any]:
    """The settings of `crops` as arguments of `RegionCropper`. A precision that nobody has measured is fp32."""
    arguments = {name: value for name, value in vars(config.crops).items() if name not in ("boxes", "precision")}
    return arguments | {"half_precision": config.crops.precision == HALF}
