"""Settings to networks and their LightningModules."""

from dataclasses import asdict
from typing import Any

import torch

from baa.checkpoints.trained_model import TrainedModel, Weights, build_model, cropper_arguments, weights_of
from baa.config.load import to_plain
from baa.config.schema import Config, FitConfig
from baa.errors import InputError
from baa.modules.base import AgeRegressionModule
from baa.modules.estimator import EstimatorModule
from baa.modules.joint import JointModule
from baa.modules.locator import LocatorModule
from baa.nets.backbone import Backbone, has_fixed_side
from baa.nets.cropper import RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.locator import Locator
from baa.nets.two_stage import WHOLE, BoneAgeModel

Networks = dict[str, dict[str, Any]]
"""Arguments of `Locator` and `Estimator`, by name: plain data from which a model can be built again."""


def locator_arguments(config: Config, mean_months: float, std_months: float) -> dict[str, Any]:
    """Turn `config.locator` into arguments of `Locator`; mean and standard deviation are of the training ages."""
    c = config.locator
    scale = {"mean_months": mean_months, "std_months": std_months}
    own = {"px": c.px, "attention": c.attention, "head": c.head, "auxiliary_stride": c.auxiliary_stride}
    return {"backbone": c.backbone.name, **own, **scale}


def estimator_arguments(config: Config, mean_months: float, std_months: float) -> dict[str, Any]:
    """Turn `config.estimator` into arguments of `Estimator`; mean and standard deviation are of the training ages."""
    c = config.estimator
    streams = {name: getattr(c, name) for name in c.streams}
    sides = {name: input_side(config, name) for name, stream in streams.items() if has_fixed_side(stream.name)}
    return {
        "backbones": {name: stream.name for name, stream in streams.items()},
        **({"sides": sides} if sides else {}),
        "conv_pool": [name for name, stream in streams.items() if stream.conv_pool],
        "fusion": asdict(c.fusion),
        "head": c.head,
        "mean_months": mean_months,
        "std_months": std_months,
        "hidden": c.hidden,
        "dropout": c.dropout,
        "auxiliary": c.auxiliary > 0,
    }


def input_side(config: Config, stream: str) -> int:
    """The side of the image that a stream of the estimator reads."""
    return config.estimator.whole_px if stream == WHOLE else getattr(config.crops, stream).px


def locator_module(config: Config, arguments: dict[str, Any]) -> LocatorModule:
    """Build stage 1, with a locator of these arguments."""
    c = config.locator
    return LocatorModule(Locator(**arguments), hide_and_seek=c.hide_and_seek, **optimization(c.fit))


def estimator_module(config: Config, arguments: dict[str, Any]) -> EstimatorModule:
    """Build stage 2, with an estimator of these arguments."""
    c = config.estimator
    model = BoneAgeModel(None, Estimator(**arguments), whole_px=c.whole_px, flip_average=c.flip_average)
    return EstimatorModule(model, auxiliary=c.auxiliary, **optimization(c.fit))


def joint_module(config: Config, start: TrainedModel, setting: str) -> JointModule:
    """Build stage 3, with the networks and weights of a trained model.

    Args:
        config: the run's settings.
        start: the model that it starts from.
        setting: the setting that named it, for errors.

    Raises:
        InputError: the model is a locator alone, or has no locator.
    """
    if set(start.networks) != {"locator", "estimator"}:
        raise InputError(f"{setting}: joint training starts from an estimator that reads crops; this model is not one")
    c, estimator_settings = config.joint, start.settings["estimator"]
    settings = to_plain(config) | {"estimator": estimator_settings}
    locator, estimator, _ = weights_of(start.model)
    model = build_model(start.networks, settings, Weights(locator, estimator, {}))
    assert model.cropper is not None
    model.cropper.differentiable = "weights" if c.channel_weights == "differentiated" else "map"
    return JointModule(
        model,
        locator_lr=c.locator_lr,
        locator_weight=c.locator_weight,
        locator_loss=config.locator.fit.loss,
        auxiliary=estimator_settings["auxiliary"],
        frozen_statistics=c.frozen_statistics,
        locator_frozen=c.locator_frozen,
        estimator_frozen=c.estimator_frozen,
        **optimization(c.fit),
    )


def build_cropper(config: Config, locator: Locator) -> RegionCropper:
    """Build the cropper of `config.crops` on a locator."""
    return RegionCropper(locator, **cropper_arguments(to_plain(config)["crops"]))


def optimization(fit: FitConfig) -> dict[str, Any]:
    """Turn the settings of a fit into arguments of `AgeRegressionModule`."""
    names = ("loss", "optimizer", "lr", "weight_decay", "schedule", "warmup", "progressive_resize_from")
    return {name: getattr(fit, name) for name in names}


def prepare(module: AgeRegressionModule, config: Config) -> AgeRegressionModule:
    """Apply memory layout, gradient checkpointing and compilation to a module, in place."""
    if config.trainer.gradient_checkpointing:
        for part in module.modules():
            if isinstance(part, Backbone):
                part.checkpoint_gradients()
    if config.trainer.compile:
        torch._dynamo.config.suppress_errors = True  # run eagerly what does not compile
        for part in module.modules():
            if isinstance(part, Backbone):
                part.compile()
    return module.to(memory_format=torch.channels_last)
