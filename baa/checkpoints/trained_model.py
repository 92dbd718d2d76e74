"""A trained model: its networks, the settings that it was trained with, and what it knows of its own errors."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from baa.checkpoints.provenance import Provenance
from baa.config.schema import CropsConfig
from baa.metrics.local_line import MIDDLE_MONTHS
from baa.nets.attention import Attribution
from baa.nets.cropper import RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.input_check import InputCheck
from baa.nets.locator import Locator
from baa.nets.regions import Region
from baa.nets.two_stage import BoneAgeModel
from baa.patient import Sex

CAM = "cam_"
"""Prefix of the settings of `crops` that are arguments of `Attribution`."""

TRAINING_ONLY = ("boxes", "precision")
"""Settings of `crops` that are no argument of `RegionCropper`."""


class TrainedModel(NamedTuple):
    """A model ready to predict.

    stage: the last stage that trained it. model: in eval mode, its input check included. networks: the arguments of `Locator`
    and `Estimator` that it was built with, by name. settings: of its run, plain. provenance: what it was trained on.
    calibration: absolute errors on the validation split by group (see `baa.metrics.conformal`), saturated ends and stream ages
    too, empty before its stage ended. identity: name, version and digest of the weights, for whoever keeps its answers.
    lines: shift and slope by sex of a local calibration (`baa.metrics.local_line`), which the model applies; else empty.
    members: of an ensemble, whose `networks` and `settings` are those of its first member; else empty.
    """

    stage: str
    model: BoneAgeModel
    networks: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    provenance: Provenance
    calibration: dict[str, list[float]]
    identity: str = ""
    lines: Mapping[str, Sequence[float]] = MappingProxyType({})
    members: "tuple[TrainedModel, ...]" = ()

    @property
    def locator(self) -> Locator | None:
        """The locator, None for an estimator of the whole radiograph."""
        return None if self.model.cropper is None else self.model.cropper.locator


class Weights(NamedTuple):
    """State dicts of a model's parts; empty for parts that it does not have."""

    locator: Mapping[str, Tensor]
    estimator: Mapping[str, Tensor]
    input_check: Mapping[str, Tensor]


def weights_of(model: BoneAgeModel) -> Weights:
    """Collect the weights of a model by part."""
    locator = {} if model.cropper is None else model.cropper.locator.state_dict()
    estimator = {} if model.estimator is None else model.estimator.state_dict()
    input_check = {} if model.input_check is None else model.input_check.state_dict()
    return Weights(locator, estimator, input_check)


def build_model(networks: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any], weights: Weights) -> BoneAgeModel:
    """Build a model from the arguments of its networks and fill it with its weights.

    Args:
        networks: arguments of `Locator` and `Estimator`, by name; only those that the model has.
        settings: plain settings of its run.
        weights: of its parts.

    Returns:
        The model in eval mode, in the memory layout in which convolutions are fastest.

    Raises:
        RuntimeError, TypeError: arguments or weights of another version.
    """
    cropper = None
    if "locator" in networks:
        locator = Locator(**networks["locator"])
        locator.load_state_dict(weights.locator)
        cropper = RegionCropper(locator, **cropper_arguments(settings["crops"]))
    estimator = Estimator(**networks["estimator"]) if "estimator" in networks else None
    if estimator is not None:
        estimator.load_state_dict(weights.estimator)
    model = BoneAgeModel(
        cropper,
        estimator,
        whole_px=settings["estimator"]["whole_px"],
        flip_average=settings["estimator"]["flip_average"],
        input_check=build_input_check(weights.input_check),
    )
    return model.eval().to(memory_format=torch.channels_last)


def with_lines(model: BoneAgeModel, lines: Mapping[str, Sequence[float]]) -> BoneAgeModel:
    """Let a model apply the lines of a local calibration, in place."""
    for sex, (shift, slope) in lines.items():
        model.lines[Sex[sex.upper()]] = torch.tensor([shift - (slope - 1) * MIDDLE_MONTHS, slope])
    return model


def build_input_check(weights: Mapping[str, Tensor]) -> InputCheck | None:
    """Build an input check from its weights; None without weights."""
    if not weights:
        return None
    check = InputCheck(len(weights["weight"]))
    check.load_state_dict(weights)
    return check


def cropper_arguments(crops: Mapping[str, Any]) -> dict[str, Any]:
    """Turn plain settings of `crops` into arguments of `RegionCropper`."""
    names = CropsConfig().regions()
    regions = {name: Region(**crops[name]) for name in names}
    reading = {name.removeprefix(CAM): value for name, value in crops.items() if name.startswith(CAM)}
    others = {name: value for name, value in crops.items() if name not in (*names, *TRAINING_ONLY) and not name.startswith(CAM)}
    half = crops["precision"] == "bf16-mixed"
    return {"regions": regions, "attribution": Attribution(**reading), **others, "half_precision": half}
