"""A whole run that takes seconds: small phantoms, small networks."""

import os
from pathlib import Path

import forked

TINY = [
    "data.source=phantom",
    "data.phantom.count=60",
    "data.source_px=96",
    "data.workers=0",
    "data.split.val=0.15",
    "data.split.test=0.25",
    "locator.backbone.name=test_resnet",
    "locator.backbone.weights=none",
    "locator.px=64",
    "locator.fit.epochs=2",
    "crops.carpal.px=48",
    "crops.hand.px=40",
    "crops.precision=32-true",
    "estimator.carpal.name=test_resnet",
    "estimator.carpal.weights=none",
    "estimator.hand.name=test_resnet",
    "estimator.hand.weights=none",
    "estimator.fit.epochs=2",
    "trainer.progress=false",
    "trainer.precision=32-true",
]

BRIEF_FIT = str(Path(__file__).with_name("brief.py"))
"""A program that all processes of a fit can start, and that ends briefly."""

LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "BAA_STARTED_BY")
"""Prefixes of the environment variables in which torchrun, srun and `baa` itself pass rank and world size."""


def settings(folder, *more):
    """Settings of a run in `folder`/tiny, with further `key=value`."""
    return ["name=tiny", f"runs={folder}", f"data.cache={folder}/cache", *TINY, *more]


def with_crops(trained, **crops):
    """A trained model with other settings of `crops`; those of a region are merged."""
    from baa.checkpoints.trained_model import build_model, weights_of

    own = trained.settings["crops"]
    changed = {name: own[name] | value if isinstance(value, dict) else value for name, value in crops.items()}
    settings = trained.settings | {"crops": own | changed}
    return trained._replace(settings=settings, model=build_model(trained.networks, settings, weights_of(trained.model)))


def command(folder, *more, program=("-m", "baa.fit"), **environment):
    """Start `baa.fit`, or a program that wraps it, without waiting for its end; see `forked.py`."""
    program = [BRIEF_FIT] if "trainer.devices=2" in more else program
    return forked.start([*program, *arguments(folder, *more)], env=clean_environment() | environment)


def arguments(folder, *more):
    """Arguments of `baa.fit` for a locator, with a config file in the folder."""
    (folder / "tiny.yaml").write_text("stages: [locator]\n")
    return ["--config", str(folder / "tiny.yaml"), *settings(folder, *more)]


def clean_environment():
    """The environment without variables of launchers and W&B, for processes of one thread."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", *LAUNCHERS))}
    return clean | {"OMP_NUM_THREADS": "1"}
