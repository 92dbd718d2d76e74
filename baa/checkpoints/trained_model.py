"""What a trained model is made of, however it was kept."""

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from baa.checkpoints.provenance import Lineage
from baa.modules.base import AgeModule
from baa.modules.estimator import EstimatorModule
from baa.modules.joint import JointModule
from baa.modules.locator import LocatorModule
from baa.nets.input_check import Recogniser
from baa.nets.locator import Locator

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
    `baa.metrics.conformal`), none before its stage has ended; what tells whether the locator knows what it is shown, None
    before that, or of a model without one.
    """

    stage: str
    module: AgeModule
    locator: Locator | None
    locator_arguments: dict[str, Any]
    settings: dict[str, Any]
    lineage: Lineage
    calibration: dict[str, list[float]]
    recogniser: Recogniser | None = None


def at_rest(module: Module) -> Module:
    """In eval mode, and in the memory layout that convolutions are fastest in."""
    return module.eval().to(memory_format=torch.channels_last)


def read_recogniser(tensors: dict[str, Tensor]) -> Recogniser | None:
    """From how it was kept; None if it was not."""
    if not tensors:
        return None
    recogniser = Recogniser(len(tensors["weight"]))
    recogniser.load_state_dict(tensors)
    return recogniser


def own_locator(module: AgeModule) -> tuple[Locator | None, dict[str, Any]]:
    """The locator that is part of a module, and the arguments that build it; (None, {}) for an estimator."""
    if isinstance(module, LocatorModule):
        return module.net, dict(module.hparams["net"])
    if isinstance(module, JointModule):
        return module.cropper.locator, dict(module.hparams["locator"])
    return None, {}
