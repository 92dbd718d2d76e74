"""Weights & Biases, where there is one."""

import socket
from urllib.parse import urlparse

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info
from requests.utils import get_netrc_auth

from baa.config import to_plain
from baa.schema import Config

REACH_SECONDS = 3.0


def wandb_logger(stage: str, config: Config) -> WandbLogger:
    """A logger for one stage, offline where there is no key or no network; never waits for either."""
    asked = wandb.setup().settings.mode
    reason = _why_offline() if asked == "online" else ""
    if reason:
        rank_zero_info(f"W&B: {reason}; this run is kept offline, upload it later with `wandb sync`")
    folder = config.folder / stage
    folder.mkdir(parents=True, exist_ok=True)
    return WandbLogger(
        name=f"{config.name}-{stage}",
        group=config.name,
        project=config.wandb.project,
        entity=config.wandb.entity,
        save_dir=folder,
        mode="offline" if reason else asked,
        config=to_plain(config),
    )


def _why_offline() -> str:
    settings = wandb.setup().settings
    if not (settings.api_key or get_netrc_auth(settings.base_url)):
        return "no key (`wandb login` sets one)"
    server = urlparse(settings.base_url)
    port = server.port or (80 if server.scheme == "http" else 443)
    try:
        socket.create_connection((server.hostname or "", port), REACH_SECONDS).close()
    except OSError:
        return f"{server.hostname} is out of reach"
    return ""
