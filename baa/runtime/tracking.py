"""Logging to Weights & Biases: one W&B run for each stage.

By default a run has its metrics, its name and the settings that a shared model has too. `wandb.detail=full` adds what W&B
collects by itself, and may hold names of patients: the console with the cells of bad rows, folders, columns, the command line.
"""

import json
import logging
import os
import re
import secrets
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from wandb.errors import CommError

from baa.atomic_io import write_atomic
from baa.config.load import to_plain, to_share
from baa.config.schema import Config
from baa.errors import InputError
from baa.metrics.ages import age_metrics
from baa.model_card import CARD
from baa.runtime.wandb_access import OFFLINE, WITHOUT, log_offline, logging_mode, wandb_settings, was_stopped

STEP = "trainer/global_step"
"""Lightning's name for the step, the axis of all metrics."""

BEST: dict[str, Callable[..., Any]] = {
    **{name: max if metric.higher_is_better else min for name, metric in age_metrics("val/").items()},
    "train/loss": min,
    "train/mae": min,
}
"""The metrics of each epoch, and which of their values is the best."""

SERVER_FAULT = re.compile(r"timed? ?out|deadline exceeded|while retrying|connection", re.IGNORECASE)
"""Matches the errors of a server that does not answer, as opposed to one that refuses."""

FINISH_SECONDS = 600.0
"""Time that a run waits at its end for a server that has gone. What is left can be uploaded by `wandb sync`."""

PRIVATE: dict[str, Any] = {
    "console": "off",
    "host": "",
    "disable_code": True,
    "disable_git": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_save_requirements": False,
}
"""W&B's settings for a run that shows nothing of the machine, the command line and the console."""

_stopped, _ending = threading.Event(), threading.Event()
_trials: dict[str, "StageLogger"] = {}
"""The logger of a trial whose run has been started, by the run's id."""


class StageLogger(WandbLogger):
    """Lightning's logger for one stage. A resumed run gets no second row of a step that W&B has.

    W&B's summary holds the best value of each metric of training and validation. W&B's client forgets it when a run is resumed.
    """

    last_step = -1
    earlier_best: Mapping[str, Any] = MappingProxyType({})

    @rank_zero_only
    def start(self) -> None:
        """Start the W&B run; offline if the server has gone since it was asked.

        Raises:
            InputError: the server refuses the run.
        """
        if self._experiment is not None:
            return
        try:
            run = self.experiment
        except wandb.Error as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            if not (isinstance(error, CommError) and SERVER_FAULT.search(str(error))):
                raise InputError(f"W&B: {reason}; check wandb.entity and wandb.project, {WITHOUT}") from error
            log_offline(reason)
            wandb.teardown()  # its service would say that the run is in use
            self._wandb_init["mode"] = OFFLINE
            run = self.experiment
        self.last_step = run.summary.get(STEP, -1)
        kept = {name: run.summary.get(name) for name in BEST}  # before they are defined anew, which clears them
        self.earlier_best = {name: value[BEST[name].__name__] for name, value in kept.items() if isinstance(value, dict)}
        for name, best in BEST.items():
            run.define_metric(name, step_metric=STEP, summary=best.__name__)
        _stopped.clear()
        _ending.clear()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if step is not None and step < self.last_step:
            return
        super().log_metrics(metrics, step)
        self.earlier_best = {name: BEST[name](value, metrics.get(name, value)) for name, value in self.earlier_best.items()}
        for name in self.earlier_best.keys() & metrics.keys():
            self.experiment.summary.update({name: {BEST[name].__name__: self.earlier_best[name]}})


def wandb_logger(stage: str, config: Config) -> StageLogger | None:
    """A logger for one stage. Without a key or a server it logs offline.

    A resumed stage continues its own W&B run. If `WANDB_RUN_ID` is set, as a sweep's agent does for a trial, that run belongs
    to the last stage, and the earlier stages are not logged.

    Returns:
        None for a stage that is not logged.

    Raises:
        InputError: W&B's settings are not valid, or the server rejects the key.
    """
    trial_id = os.environ.get("WANDB_RUN_ID")
    if trial_id and stage != config.stages[-1]:
        return None
    if trial_id in _trials and wandb.run is not None:
        return _trials[trial_id]
    full = config.wandb.detail == "full"
    if not full:
        logging.getLogger("wandb").setLevel(logging.WARNING)  # its debug.log, in the run's folder, names folders
    folder = config.folder / stage
    folder.mkdir(parents=True, exist_ok=True)
    return StageLogger(
        name=f"{config.name}-{stage}",
        group=os.environ.get("WANDB_RUN_GROUP", config.name),
        id=trial_id or _run_id(folder / "wandb_run.txt"),
        resume="allow",
        project=config.wandb.project,
        entity=config.wandb.entity,
        save_dir=folder,
        mode=logging_mode(),
        config=to_plain(config) if full else to_share(to_plain(config)),
        settings=wandb.Settings(
            stop_fn=_on_stop, finish_timeout=wandb_settings().finish_timeout or FINISH_SECONDS, **{} if full else PRIVATE
        ),
    )


@rank_zero_only
def begin_tracking(config: Config) -> None:
    """Check W&B's settings, key and server before any data is read.

    An agent's trial starts its W&B run at once, so that W&B marks it as failed after any later error.

    Raises:
        InputError: W&B's settings are not valid, or the server rejects the key or the run.
    """
    logging_mode()
    trial_id = os.environ.get("WANDB_RUN_ID")
    if trial_id and (logger := wandb_logger(config.stages[-1], config)):
        logger.start()
        _trials[trial_id] = logger


@rank_zero_only
def _run_id(file: Path) -> str:
    if not (file.exists() and file.read_text()):  # a crash may leave it empty
        write_atomic(file, secrets.token_hex(4))
    return file.read_text()


def _on_stop() -> None:
    """Stop the run as Ctrl-C does, because it was stopped in W&B: by hand, or by the early termination of its sweep."""
    _stopped.set()
    if not _ending.is_set():
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@rank_zero_only
def end_stopped_run(signum: int) -> None:
    """End the W&B run of a stage that a signal stopped. W&B gives the trial to an agent again, unless it was stopped in W&B.

    Args:
        signum: of the signal. An agent ends a trial by SIGTERM both when it is itself ended, and when W&B stopped the trial.
    """
    if wandb.run is None:
        return
    _ending.set()
    is_stopped = _stopped.is_set() or (signum == signal.SIGTERM and "WANDB_SWEEP_ID" in os.environ and was_stopped(wandb.run))
    if not is_stopped:
        wandb.run.mark_preempting()
    wandb.finish(exit_code=128 + signum)  # W&B would take a SystemExit for the end of a whole run


@rank_zero_only
def finish_run() -> None:
    """End the W&B run of a stage, so that the next stage starts its own."""
    if wandb.run is not None:
        wandb.finish()


@rank_zero_only
def keep_bundle(folder: Path, name: str) -> None:
    """Keep a bundle as an artifact of the W&B run, with its card as metadata.

    Args:
        folder: the bundle.
        name: of the artifact; another bundle of the same name is its next version.
    """
    if wandb.run is not None:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", name), type="model", metadata=card)
        artifact.add_dir(str(folder))
        wandb.run.log_artifact(artifact)
