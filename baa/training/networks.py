"""Settings to networks: each stage's module, its weights to start from, and what its cropper is told."""

from typing import Any

from baa.nets.backbones import load_weights
from baa.schema import Config, Optimisation
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


def optimisation(fit: Optimisation) -> dict[str, Any]:
    """The settings of a fit as arguments of `AgeModule`."""
    return {
        "loss": fit.loss,
        "optimizer": fit.optimizer,
        "lr": fit.lr,
        "weight_decay": fit.weight_decay,
        "schedule": fit.schedule,
    }


def take_weights(module: AgeModule, config: Config) -> None:
    """Fill the backbones with the weights that the config names, in place.

    Raises:
        InputError: weights that are not there, or do not fit.
    """
    if isinstance(module, LocatorModule):
        load_weights(module.net.backbone, config.locator.backbone.weights)
    elif isinstance(module, EstimatorModule):
        for name in config.estimator.streams:
            backbone = module.net.stream(name).backbone
            load_weights(backbone, getattr(config.estimator, name).weights)


def crop_arguments(config: Config) -> dict[str, Any]:
    """The settings of `crops` as arguments of `RegionCropper`. A precision that nobody has measured is fp32."""
    arguments = {name: value for name, value in vars(config.crops).items() if name not in ("boxes", "precision")}
    return arguments | {"half_precision": config.crops.precision == HALF}
