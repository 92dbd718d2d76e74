"""Settings to networks: each stage's module, its weights to start from, and what its cropper is told."""

from pathlib import Path
from typing import Any

from torch import nn

from baa.assembly.trainer import HALF
from baa.checkpoints.load import restore
from baa.config.schema import Config, Optimisation
from baa.errors import InputError
from baa.model_card import model_path
from baa.modules.base import AgeModule
from baa.modules.estimator import EstimatorModule
from baa.modules.joint import JointModule
from baa.modules.locator import LocatorModule
from baa.nets.backbone import Backbone, load_weights


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
    setting = "joint.start" if config.joint.start or not config.weights else "weights"
    c, begun = config.joint, restore(start, setting)
    estimator, arguments = begun.module, dict(begun.module.hparams)
    if isinstance(estimator, JointModule):
        estimator, arguments = estimator.estimator, arguments["estimator"]
    if not isinstance(estimator, EstimatorModule) or begun.locator is None:
        raise InputError(f"{setting}: {start} is no checkpoint of an estimator that reads crops")
    graph = "weights" if c.channel_weights == "differentiated" else "map"
    module = JointModule(
        dict(begun.locator_arguments),
        crop_arguments(config) | {"graph": graph},
        arguments,
        optimisation(c.fit),
        locator_lr=c.locator_lr,
        locator_weight=c.locator_weight,
        locator_loss=config.locator.fit.loss,
        frozen_statistics=c.frozen_statistics,
        frozen_groups=(c.locator_frozen, c.estimator_frozen),
    )
    module.estimator.load_state_dict(estimator.state_dict())
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
        "grow_from": fit.grow_from,
    }


def take_weights(module: AgeModule, config: Config, locator: Path) -> None:
    """Fill a module with the weights that the config names, in place: all of it, or its backbones.

    Args:
        module: fresh; one of the joint stage has its weights already.
        config: `weights`, or those of each backbone.
        locator: the model whose locator a backbone may take its weights from.

    Raises:
        InputError: weights that are not there, or do not fit.
    """
    if isinstance(module, JointModule):
        return
    if config.weights:
        _take_all(module, model_path(config.weights))
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
    setting = f"estimator.{stream}.weights=locator"
    locator = restore(file, setting).locator
    if locator is None or locator.backbone.name != backbone.name:
        found = "none" if locator is None else locator.backbone.name
        raise InputError(f"{setting}: {stream} is {backbone.name}, the locator of {file} {found}")
    backbone.load_state_dict(locator.backbone.state_dict())


def _take_all(module: AgeModule, model: Path) -> None:
    """Whatever learns starts from the model's; fusion weights that do not learn are the config's."""
    begun = restore(model, "weights")
    own: nn.Module = module
    given: nn.Module | None = begun.module.estimator if isinstance(begun.module, JointModule) else begun.module
    if isinstance(module, LocatorModule):
        own, given = module.net, begun.locator
    assert type(given) is type(own), "the config was checked against the model's card"
    fixed = {name: tensor for name, tensor in own.named_parameters() if not tensor.requires_grad}
    try:
        own.load_state_dict(given.state_dict() | fixed)
    except RuntimeError as error:
        first = (str(error).splitlines()[1:] or [str(error)])[0].strip()
        raise InputError(f"weights: {model} does not fit the networks that the settings over it ask for: {first}") from error


def recompute_backbones(module: nn.Module) -> None:
    """Spend time for memory in every backbone, in place."""
    for part in module.modules():
        if isinstance(part, Backbone):
            part.recompute()


def crop_arguments(config: Config) -> dict[str, Any]:
    """The settings of `crops` as arguments of `RegionCropper`. A precision that nobody has measured is fp32."""
    arguments = {name: value for name, value in vars(config.crops).items() if name not in ("boxes", "precision")}
    return arguments | {"half_precision": config.crops.precision == HALF}
