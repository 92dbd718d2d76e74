"""Weights & Biases, where there is one."""

import os
import secrets
import socket
from pathlib import Path
from urllib.parse import urlparse

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from requests.utils import get_netrc_auth

from baa.atomic_io import write_whole
from baa.config.load import to_plain
from baa.config.schema import Config

REACH_SECONDS = 3.0


def wandb_logger(stage: str, config: Config) -> WandbLogger | None:
    """A logger for one stage, offline where there is no key or no network; never waits for either.

    A stage that is resumed goes on in its own W&B run. Where `WANDB_RUN_ID` names one, as a sweep's agent does for a trial,
    it is the last stage's, and the stages before it are not logged.
    """
    given = os.environ.get("WANDB_RUN_ID")
    if given and stage != config.stages[-1]:
        return None
    asked = wandb.setup().settings.mode
    reason = _why_offline() if asked == "online" else ""
    if reason:
        rank_zero_info(f"W&B: {reason}; this run is kept offline, upload it later with `wandb sync`")
    folder = config.folder / stage
    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        name=f"{config.name}-{stage}",
        group=os.environ.get("WANDB_RUN_GROUP", config.name),
        id=given or _kept_id(folder / "wandb_run.txt"),
        resume="allow",
        project=config.wandb.project,
        entity=config.wandb.entity,
        save_dir=folder,
        mode="offline" if reason else asked,
        config=to_plain(config),
    )


@rank_zero_only
def begin_trial(config: Config) -> None:
    """Start the W&B run that an agent asks for at once: whatever fails from here on, marks it as failed."""
    if os.environ.get("WANDB_RUN_ID") and (logger := wandb_logger(config.stages[-1], config)):
        _ = logger.experiment  # the property starts it


@rank_zero_only
def _kept_id(file: Path) -> str:
    if not file.exists():
        write_whole(file, secrets.token_hex(4))
    return file.read_text()


@rank_zero_only
def mark_preempted() -> None:
    """Tell W&B that a trial was stopped from outside, so that an agent is given it again."""
    if wandb.run is not None:
        wandb.run.mark_preempting()


@rank_zero_only
def finish_run() -> None:
    """End the W&B run of a stage, so that the next stage begins one of its own."""
    if wandb.run is not None:
        wandb.finish()


def _why_offline() -> str:
    settings = wandb.setup().settings
    if not (settings.api_key or get_netrc_auth(settings.base_url)):
        return "no key (`wandb login` sets one)"
    if os.environ.get("WANDB_SWEEP_ID"):
        return ""  # an agent has just spoken to the server
    server = urlparse(settings.base_url)
    port = server.port or (80 if server.scheme == "http" else 443)
    try:
        socket.create_connection((server.hostname or "", port), REACH_SECONDS).close()
    except OSError:
        return f"{server.hostname} is out of reach"
    return ""
