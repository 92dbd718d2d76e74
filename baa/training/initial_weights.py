"""What a stage takes over: where its locator and its estimator come from, and what they have been trained on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities import rank_zero_info

from baa.checkpoints.load import restore
from baa.checkpoints.provenance import Lineage, id_digest, lineage
from baa.config.load import to_plain
from baa.config.schema import Config
from baa.data.cache import Radiographs
from baa.model_card import model_path


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


class Parent(NamedTuple):
    """A model that a run is given to start from: what it has seen, and what its cases were split by."""

    lineage: Lineage
    split: dict[str, Any]


def _split_by(data: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide who learns and who chooses."""
    return data["split"] | {"test_ids": None, "source": data["source"], "column": data["table"]["split"]}


def parents(config: Config) -> list[Parent]:
    """The models that a run is given to start from."""
    given = {
        "weights": config.weights,
        "locator.checkpoint": config.locator.checkpoint,
        "joint.start": config.joint.start,
    }
    models = [restore(model_path(model), setting) for setting, model in given.items() if model]
    return [Parent(model.lineage, _split_by(model.settings["data"])) for model in models]


def offspring(config: Config, cohort: dict[str, Radiographs], given: Sequence[Parent]) -> Lineage:
    """What a model of this run has seen, and what its parents have."""
    ids = [case.id for split in ("train", "val") for case in cohort[split].cases]
    return lineage(ids, config.data.source, [parent.lineage for parent in given])


def warn_of_cases_seen(config: Config, cohort: dict[str, Radiographs], given: Sequence[Parent]) -> None:
    """Say where a parent has learnt from the cases that choose or judge.

    (A parent that split as this run does has chosen by the same cases that this run chooses by, and not learnt from them.)
    """
    split = _split_by(to_plain(config)["data"])
    strangers = [parent for parent in given if parent.split != split]
    for name, those, what in (("val", strangers, "choice of an epoch and intervals"), ("test", given, "test MAE")):
        seen = frozenset().union(*(parent.lineage.seen for parent in those))
        cases = cohort[name].cases
        if count := sum(id_digest(case.id) in seen for case in cases):
            rank_zero_info(
                f"{count} of the {len(cases)} {name} cases were trained or chosen on by what this run starts from: "
                f"its {what} will be too good; split as that model did (data.split), or judge by "
                "`python -m baa.evaluate --split unseen`"
            )
