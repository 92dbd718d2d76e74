"""What a run starts from: its source models, each loaded once, and the weights that it takes from them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from baa.checkpoints.load import digest, file_provenance, load_model
from baa.checkpoints.provenance import Provenance, joined
from baa.checkpoints.trained_model import TrainedModel
from baa.config.load import WEIGHTS_BY_NAME
from baa.config.schema import Config
from baa.errors import InputError
from baa.model_card import model_path
from baa.modules.base import AgeRegressionModule
from baa.modules.estimator import EstimatorModule
from baa.modules.locator import LocatorModule
from baa.nets.backbone import Backbone, load_weights


class SourceModels:
    """The models that a run starts from: those that its settings name, and those of its own finished stages.

    Args:
        config: the run's settings.

    Raises:
        InputError: a model that the settings name cannot be loaded, or has no locator where one is needed.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.loaded: dict[Path, TrainedModel] = {}
        settings = {
            "weights": config.weights,
            "locator.checkpoint": config.locator.checkpoint,
            "joint.start": config.joint.start,
        }
        self.named = {setting: model_path(model) for setting, model in settings.items() if model}
        for setting, path in self.named.items():
            self.load(path, setting)
        if config.locator.checkpoint:
            self.locator()

    def load(self, path: Path, setting: str) -> TrainedModel:
        """Load a model, or return it if it has been loaded."""
        if path not in self.loaded:
            self.loaded[path] = load_model(path, setting)
        return self.loaded[path]

    def add(self, stage: str, trained: TrainedModel) -> None:
        """Keep the model of a stage that this run has just finished."""
        self.loaded[self._own(stage)] = trained

    def locator_path(self) -> Path:
        """Path of the model whose locator cuts the crops: the named one, this run's, or that of `weights`."""
        return self._path("locator", self.config.locator.checkpoint)

    def locator(self) -> TrainedModel:
        """The model whose locator cuts the crops.

        Raises:
            InputError: it has no locator.
        """
        path = self.locator_path()
        trained = self.load(path, "locator.checkpoint")
        if trained.locator is None:
            raise InputError(f"locator.checkpoint: {path} reads the whole radiograph, it has no locator; give another model")
        return trained

    def locator_source(self) -> dict[str, Any]:
        """File and digest of the locator, for checkpoints and cached boxes."""
        path = self.locator_path()
        return {"file": str(path), "sha256": digest(path)}

    def estimator(self) -> tuple[TrainedModel, str]:
        """The model that joint training starts from, and the setting that names it."""
        setting = "joint.start" if self.config.joint.start or not self.config.weights else "weights"
        return self.load(self._path("estimator", self.config.joint.start), setting), setting

    def _path(self, stage: str, named: str | None) -> Path:
        if named:
            return model_path(named)
        if stage in self.config.stages or not self.config.weights:
            return self._own(stage)
        return model_path(self.config.weights)

    def _own(self, stage: str) -> Path:
        return self.config.folder / stage / "best.ckpt"

    def provenance(self, stages: Sequence[str]) -> Provenance:
        """Join what models of these stages inherit from the models and weights files that they start from."""
        return joined([*(trained.provenance for trained in self.loaded.values()), *self._files(stages)])

    def _files(self, stages: Sequence[str]) -> Iterator[Provenance]:
        """Provenance of the weights files of backbones. Files that are missing are reported when they are to be loaded."""
        estimator = [getattr(self.config.estimator, name) for name in self.config.estimator.streams]
        backbones = {"locator": [self.config.locator.backbone], "estimator": estimator}
        if self.config.weights:
            return
        for stage in stages:
            for weights in sorted({backbone.weights for backbone in backbones.get(stage, [])} - set(WEIGHTS_BY_NAME)):
                if Path(weights).is_file():
                    yield file_provenance(Path(weights))


def take_weights(module: AgeRegressionModule, config: Config, sources: SourceModels) -> None:
    """Fill the networks of a new module with the weights that the config names, in place. Joint modules have theirs already.

    Raises:
        InputError: weights that do not exist or do not fit.
    """
    if isinstance(module, LocatorModule):
        if config.weights:
            _copy_all(module.locator, sources.load(sources.named["weights"], "weights").locator, config.weights)
        else:
            load_weights(module.locator.backbone, config.locator.backbone.weights)
    elif isinstance(module, EstimatorModule):
        if config.weights:
            _copy_all(module.estimator, sources.load(sources.named["weights"], "weights").model.estimator, config.weights)
            return
        for name in config.estimator.streams:
            weights, backbone = getattr(config.estimator, name).weights, module.estimator.stream(name).backbone
            if weights == "locator":
                _copy_from_locator(backbone, name, sources)
            else:
                load_weights(backbone, weights)


def _copy_from_locator(backbone: Backbone, stream: str, sources: SourceModels) -> None:
    locator = sources.locator().locator
    assert locator is not None
    if locator.backbone.name != backbone.name:
        raise InputError(
            f"estimator.{stream}.weights=locator: {stream} is {backbone.name}, the locator of {sources.locator_path()} is "
            f"{locator.backbone.name}; give both the same backbone"
        )
    backbone.load_state_dict(locator.backbone.state_dict())


def _copy_all(own: nn.Module, source: nn.Module | None, model: str) -> None:
    """Copy all weights, except fixed fusion weights, which keep the config's values."""
    assert source is not None, "the config was checked against the model's card"
    fixed = {name: tensor for name, tensor in own.named_parameters() if not tensor.requires_grad}
    try:
        own.load_state_dict(source.state_dict() | fixed)
    except RuntimeError as error:
        first = (str(error).splitlines()[1:] or [str(error)])[0].partition('", "')[0].strip()
        raise InputError(
            f"weights: {model} does not fit the networks of the other settings ({first}); remove those settings"
        ) from error
