"""The settings' defaults are those of the networks that they are arguments of."""

import inspect

import pytest


def defaults(made):
    parameters = inspect.signature(made).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def settings(stage):
    """The arguments that default settings become."""
    from baa.assembly.modules import crop_arguments, estimator_module, locator_module
    from baa.config.schema import Config

    config, ages = Config(), {"mean_months": 127.0, "std_months": 41.0}
    for backbone in (config.locator.backbone, config.estimator.carpal, config.estimator.hand):
        backbone.name = "test_resnet"
    match stage:
        case "crops":
            return crop_arguments(config)
        case "augment":
            return vars(config.data.augment)
        case "locator":
            return locator_module(config, ages).hparams["net"]
        case "estimator":
            return estimator_module(config, ages).hparams["net"]


@pytest.mark.parametrize("stage", ["crops", "augment", "locator", "estimator"])
def test_what_the_schema_leaves_alone_the_networks_would_have_taken(stage):
    from baa.data.augment import Augmentation
    from baa.nets.cropper import RegionCropper
    from baa.nets.estimator import Estimator
    from baa.nets.locator import Locator

    of = {"crops": RegionCropper, "augment": Augmentation, "locator": Locator, "estimator": Estimator}[stage]
    given, own = settings(stage), defaults(of)
    shared = (given.keys() & own.keys()) - {"backbone", "stream_weights", "conv_pool"}  # of one network or another
    assert len(shared) >= 5

    def plain(value):
        return [plain(part) for part in value] if isinstance(value, list | tuple) else value

    assert {name: plain(given[name]) for name in shared} == {name: plain(own[name]) for name in shared}
