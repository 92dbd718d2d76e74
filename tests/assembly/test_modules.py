"""The settings of the schema are the arguments of the networks, with equal defaults."""

import inspect
from dataclasses import asdict, fields

import pytest

from baa.assembly.modules import estimator_arguments, locator_arguments
from baa.checkpoints.trained_model import CAM, TRAINING_ONLY, cropper_arguments
from baa.config.data_schema import AugmentConfig
from baa.config.load import to_plain
from baa.config.schema import (
    REGIONS,
    STREAMS,
    Config,
    CropsConfig,
    EstimatorConfig,
    FusionConfig,
    RegionConfig,
    StreamConfig,
    StreamWeightsConfig,
)
from baa.data.annotations import ANNOTATED
from baa.data.augment import Augmentation
from baa.nets.attention import Attribution
from baa.nets.cropper import RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.fusion import Fusion
from baa.nets.locator import Locator
from baa.nets.regions import Region
from baa.nets.two_stage import WHOLE
from baa.plots.figures import REGION_COLORS

AGES = {"mean_months": 127.0, "std_months": 41.0}

ARGUMENTS = {
    RegionCropper: lambda config: cropper_arguments(to_plain(config)["crops"]),
    Region: lambda config: asdict(RegionConfig()),
    Augmentation: lambda config: vars(config.data.augment),
    Locator: lambda config: locator_arguments(config, **AGES),
    Estimator: lambda config: estimator_arguments(config, **AGES),
    Fusion: lambda config: asdict(config.estimator.fusion),
}
"""Network -> the arguments that settings become."""


def arguments(network):
    """Names and defaults of the arguments of a network; `empty` for no default."""
    parameters = inspect.signature(network).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


def plain(value):
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("network", ARGUMENTS)
def test_the_defaults_of_schema_and_network_are_equal(network):
    given = ARGUMENTS[network](Config())
    defaults = {name: value for name, value in arguments(network).items() if value not in (inspect.Parameter.empty, None)}
    shared = given.keys() & defaults.keys() - {"conv_pool"}  # a setting of each stream

    assert given.keys() <= arguments(network).keys()
    assert len(shared) >= (2 if network is Region else 5)
    assert {name: plain(given[name]) for name in shared} == {name: plain(defaults[name]) for name in shared}


def test_the_default_streams_with_a_convolution_are_those_of_the_estimator():
    assert estimator_arguments(Config(), **AGES)["conv_pool"] == list(arguments(Estimator)["conv_pool"])


@pytest.mark.parametrize(
    ("settings", "network", "others"),
    [
        (FusionConfig, Fusion, {"features"}),
        (RegionConfig, Region, set()),
        (AugmentConfig, Augmentation, {"random_erasing_p"}),  # a setting of each stage
    ],
)
def test_the_settings_of_a_group_are_exactly_the_arguments_of_its_network(settings, network, others):
    """So that a new argument is spelled in two files: network and schema."""
    assert {field.name for field in fields(settings)} == arguments(network).keys() - others


def test_the_settings_of_crops_are_regions_and_exactly_the_arguments_of_the_cropper():
    names = {field.name for field in fields(CropsConfig)} - set(CropsConfig().regions()) - set(TRAINING_ONLY)
    assert set(TRAINING_ONLY) == {"boxes", "precision"}
    of_attribution = {name for name in names if name.startswith(CAM)}
    assert {name.removeprefix(CAM) for name in of_attribution} == set(Attribution._fields)
    others = {"half_precision", "differentiable", "closed_form", "attribution"}
    assert (names - of_attribution) | others == arguments(RegionCropper).keys() - {"locator", "regions"}


def test_the_regions_of_the_settings_are_those_of_the_cropper_in_the_same_order():
    settings = to_plain(Config())["crops"]
    regions = cropper_arguments(settings)["regions"]
    assert list(regions) == list(REGIONS)
    assert {name: region._asdict() for name, region in regions.items()} == {name: settings[name] for name in REGIONS}


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_has_annotations_a_color_a_stream_and_a_stream_weight(region):
    """These are all the entries, besides its record in `CropsConfig`, that a further region needs."""
    assert ANNOTATED[region]
    assert region in REGION_COLORS
    assert {field.name: field.type for field in fields(EstimatorConfig)}[region] is StreamConfig
    assert getattr(StreamWeightsConfig(), region) == 1.0


def test_the_streams_are_the_regions_and_the_whole_radiograph():
    assert (*REGIONS, WHOLE) == STREAMS
    assert {field.name for field in fields(StreamWeightsConfig)} == set(STREAMS)
    assert {field.name for field in fields(EstimatorConfig) if field.type is StreamConfig} == set(STREAMS)
    assert ANNOTATED.keys() == REGION_COLORS.keys() == set(REGIONS)
