"""Logging to Weights & Biases, offline without a key or network.

By default a run has its metrics, its name and the settings that a shared model has too. `wandb.detail=full` adds what W&B
collects by itself, and may hold names of patients: the console with the cells of bad rows, folders, columns, the command line.
"""

import logging
import os
import secrets
import socket
from pathlib import Path
from urllib.parse import urlparse

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from requests.utils import get_netrc_auth

from baa.atomic_io import write_atomic
from baa.config.load import to_plain, to_share
from baa.config.schema import Config

CONNECT_SECONDS = 3.0

SHARED = wandb.Settings(
    console="off",
    host="",
    disable_code=True,
    disable_git=True,
    x_disable_machine_info=True,
    x_disable_meta=True,
    x_save_requirements=False,
)
"""W&B's settings for a run that shows nothing of the machine, the command line and the console."""


def wandb_logger(stage: str, config: Config) -> WandbLogger | None:
    """A logger for one stage. Without a key or network it logs offline; it waits for neither.

    A resumed stage continues its own W&B run. If `WANDB_RUN_ID` is set, as a sweep's agent does for a trial, that run belongs
    to the last stage, and the earlier stages are not logged.

    Returns:
        None for a stage that is not logged.
    """
    trial_id = os.environ.get("WANDB_RUN_ID")
    if trial_id and stage != config.stages[-1]:
        return None
    mode = wandb.setup().settings.mode
    reason = _why_offline() if mode == "online" else ""
    if reason:
        rank_zero_info(f"W&B: {reason}; this run is logged offline, upload it later with `wandb sync`")
    full = config.wandb.detail == "full"
    if not full:
        logging.getLogger("wandb").setLevel(logging.WARNING)  # its debug.log, in the run's folder, names folders
    folder = config.folder / stage
    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        name=f"{config.name}-{stage}",
        group=os.environ.get("WANDB_RUN_GROUP", config.name),
        id=trial_id or _run_id(folder / "wandb_run.txt"),
        resume="allow",
        project=config.wandb.project,
        entity=config.wandb.entity,
        save_dir=folder,
        mode="offline" if reason else mode,
        config=to_plain(config) if full else to_share(to_plain(config)),
        settings=None if full else SHARED,
    )


@rank_zero_only
def begin_trial(config: Config) -> None:
    """Start the W&B run of an agent's trial at once, so that W&B marks it as failed after any later error."""
    if os.environ.get("WANDB_RUN_ID") and (logger := wandb_logger(config.stages[-1], config)):
        _ = logger.experiment  # this property starts the run


@rank_zero_only
def _run_id(file: Path) -> str:
    if not (file.exists() and file.read_text()):  # a crash may leave it empty
        write_atomic(file, secrets.token_hex(4))
    return file.read_text()


@rank_zero_only
def mark_preempted() -> None:
    """Mark the W&B run as preempted, so that W&B gives the trial to an agent again."""
    if wandb.run is not None:
        wandb.run.mark_preempting()


@rank_zero_only
def finish_run() -> None:
    """End the W&B run of a stage, so that the next stage starts its own."""
    if wandb.run is not None:
        wandb.finish()


def _why_offline() -> str:
    settings = wandb.setup().settings
    if not (settings.api_key or get_netrc_auth(settings.base_url)):
        return "no API key (`wandb login` stores one)"
    if os.environ.get("WANDB_SWEEP_ID"):
        return ""  # the agent has just reached the server
    server = urlparse(settings.base_url)
    port = server.port or (80 if server.scheme == "http" else 443)
    try:
        socket.create_connection((server.hostname or "", port), CONNECT_SECONDS).close()
    except OSError:
        return f"{server.hostname} cannot be reached"
    return ""
