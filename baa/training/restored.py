"""What a trained model is made of, however it was kept."""

from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from baa.nets.locator import Locator
from baa.training.age import AgeModule
from baa.training.joint import JointModule
from baa.training.lineage import Lineage
from baa.training.modules import EstimatorModule, LocatorModule

MODULES: dict[str, type[AgeModule]] = {
    "locator": LocatorModule,
    "estimator": EstimatorModule,
    "joint": JointModule,
}

Module = TypeVar("Module", bound=nn.Module)


class Restored(NamedTuple):
    """A module ready to predict.

    stage; module in eval mode; locator whose crops it reads (its own if it has one, None for the whole hand), and the
    arguments that build it; settings of the run; what it has been trained on; its errors on the validation split, by group (see
    `baa.report.conformal`), nothing of a model that is older than these.
    """

    stage: str
    module: AgeModule
    locator: Locator | None
    locator_arguments: dict[str, Any]
    settings: dict[str, Any]
    lineage: Lineage
    calibration: dict[str, list[float]]


def at_rest(module: Module) -> Module:
    """In eval mode, and in the memory layout that convolutions are fastest in."""
    return module.eval().to(memory_format=torch.channels_last)


def own_locator(module: AgeModule) -> tuple[Locator | None, dict[str, Any]]:
    """The locator that is part of a module, and the arguments that build it; (None, {}) for an estimator."""
    if isinstance(module, LocatorModule):
        return module.net, dict(module.hparams["net"])
    if isinstance(module, JointModule):
        return module.cropper.locator, dict(module.hparams["locator"])
    return None, {}
