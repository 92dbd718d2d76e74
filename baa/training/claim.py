"""A run's folder belongs to its settings: what may change when the run goes on, and what may not."""

import itertools

from lightning.pytorch.utilities import rank_zero_only

from baa.checks import STAGES
from baa.config import differences, load, to_yaml
from baa.errors import InputError
from baa.schema import Config
from baa.training.resuming import NEWEST_FIRST
from baa.writing import write_whole

WHERE_IT_RUNS = ("accelerator", "devices", "num_nodes", "strategy", "timeout", "compile", "deterministic")
FREE_TO_CHANGE = (
    *(f"trainer.{name}" for name in (*WHERE_IT_RUNS, "progress", "profile")),
    *("wandb", "runs", "data.workers", "data.cache", "stages"),
)
"""Settings that a resumed run may be given anew: they change where it runs, not what it computes."""

FREE_UNTIL = {"estimator": ("crops", "estimator"), "joint": ("joint",)}
"""Settings that may still change while neither this stage nor a later one has begun."""


def claim(config: Config) -> None:
    """Write the run's settings.

    Raises:
        InputError: a stage was trained with others in this folder, or those that are kept there cannot be read.
    """
    file = config.folder / "config.yaml"
    begun = [stage for stage in STAGES if any((config.folder / stage / name).exists() for name in NEWEST_FIRST)]
    if begun and file.exists():
        unused = [keys for stage, keys in FREE_UNTIL.items() if not set(STAGES[STAGES.index(stage) :]) & set(begun)]
        free = (*FREE_TO_CHANGE, *itertools.chain(*unused))
        former = load(file, base={})
        changed = {
            key: values
            for key, values in differences(former, config).items()
            if not any(key == other or key.startswith(f"{other}.") for other in free)
        }
        if changed:
            key, (old, new) = next(iter(changed.items()))
            raise InputError(
                f"{config.folder} was begun with other settings: {key} was {old} and is {new}"
                + (f" ({len(changed)} differ)" if len(changed) > 1 else "")
                + "; give another name=, or remove the folder"
            )
    rank_zero_only(write_whole)(file, to_yaml(config))
