"""What a stage takes over: where its locator and its estimator come from, and what they have been trained on."""

from pathlib import Path

from baa.card import model_path
from baa.data.cache import Radiographs
from baa.schema import Config
from baa.training.checkpoints import restore
from baa.training.lineage import Lineage, lineage


def cuts_crops(stage: str, config: Config) -> bool:
    """Whether a stage reads crops that a frozen locator cuts."""
    return stage == "estimator" and set(config.estimator.streams) != {"whole"}


def locator_file(config: Config) -> Path:
    """The model whose locator cuts the crops: the one that is named, this run's, or that of `weights`."""
    own = str(config.folder / "locator" / "best.ckpt")
    return model_path(config.locator.checkpoint or (own if "locator" in config.stages else config.weights) or own)


def estimator_file(config: Config) -> Path:
    """The model that `joint` starts from: the one that is named, this run's, or `weights`."""
    own = str(config.folder / "estimator" / "best.ckpt")
    return model_path(config.joint.start or (own if "estimator" in config.stages else config.weights) or own)


def origin(config: Config, cohort: dict[str, Radiographs]) -> Lineage:
    """What a model of this run has seen, and what its parents have."""
    ids = [case.id for split in ("train", "val") for case in cohort[split].cases]
    return lineage(ids, config.data.source, parents(config))


def parents(config: Config) -> list[Lineage]:
    """What the models have seen that a run is given to start from."""
    given = {
        "weights": config.weights,
        "locator.checkpoint": config.locator.checkpoint,
        "joint.start": config.joint.start,
    }
    return [restore(model_path(model), setting).lineage for setting, model in given.items() if model]
