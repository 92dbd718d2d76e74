"""Whether W&B can be used, asked as its own client asks: wrong settings end a run, a missing key or server makes it offline."""

import functools
import os
import time
from urllib.parse import urlparse

import requests
import wandb
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from requests.utils import get_netrc_auth
from wandb.errors import AuthenticationError

from baa.errors import InputError

OFFLINE = "offline"
OFFLINE_MODES = (OFFLINE, "dryrun", "disabled")
"""Modes of W&B that need neither a key nor a server."""

ANSWER_SECONDS = 10
SETTLING_SECONDS = 0.5
"""W&B's service waits for ever if it is asked to end while it cancels a request."""

REFUSED = (401, 403)
"""HTTP statuses of a server that rejects a key."""

WITHOUT = "or go on without it: WANDB_MODE=offline, or wandb.enabled=false"

STOPPED = """
query RunStoppedStatus($projectName: String, $entityName: String, $runId: String!) {
  project(name: $projectName, entityName: $entityName) { run(name: $runId) { stopped } }
}"""
"""The question of W&B's older clients. The present one learns of a stop later, which may be too late."""


def wandb_settings() -> wandb.Settings:
    """Return W&B's settings of this process, from its files and its environment variables.

    Raises:
        InputError: one of them is not valid, such as `WANDB_MODE=on`.
    """
    try:
        return wandb.setup().settings
    except ValueError as error:  # of pydantic: how many, then two lines for each
        _, name, reason, *_ = *str(error).splitlines(), "", ""
        variable = f"WANDB_{name.strip().upper()}"
        given = f"={os.environ[variable]}" if variable in os.environ else ""
        raise InputError(f"{variable}{given}: {reason.partition('[type=')[0].strip()}; correct it, {WITHOUT}") from error


def logging_mode() -> str:
    """Return the mode in which this process logs. Log the reason for an offline one, once.

    Only the first process of a job asks the server.

    Raises:
        InputError: W&B's settings are not valid, or the server rejects the key.
    """
    settings = wandb_settings()
    if settings.mode in OFFLINE_MODES or getattr(rank_zero_only, "rank", 0) != 0:
        return settings.mode
    is_trial = bool(os.environ.get("WANDB_SWEEP_ID"))  # its agent has just reached the server
    return settings.mode if _is_available(settings.base_url, settings.api_key, is_trial) else OFFLINE


def log_offline(reason: str) -> None:
    """Log why a run is offline, and what to do later."""
    rank_zero_info(f"W&B: {reason}; this run is logged offline, upload it later with `wandb sync`")


@functools.cache
def _is_available(base_url: str, key: str | None, is_trial: bool) -> bool:
    has_key = key or wandb_settings().identity_token_file or get_netrc_auth(base_url)
    if not has_key:
        log_offline("no API key (`wandb login` stores one)")
        return False
    host = urlparse(base_url).hostname
    try:
        if not is_trial:
            wandb.Api({"base_url": base_url}, timeout=ANSWER_SECONDS, api_key=key)  # it verifies the key; proxies are its own
    except AuthenticationError as error:
        cause = error.__cause__
        if cause is None:  # the key is not even well formed
            raise InputError(f"W&B: {str(error).rstrip('.')}; `wandb login --relogin` stores another key, {WITHOUT}") from error
        if getattr(getattr(cause, "response", None), "http_status", None) in REFUSED:
            raise InputError(
                f"W&B: {host} rejects the API key ({cause}); `wandb login --relogin` stores another one, {WITHOUT}"
            ) from error
        time.sleep(SETTLING_SECONDS)
        log_offline(f"{host} cannot be reached")
        return False
    return True


def was_stopped(run: wandb.Run) -> bool:
    """Ask the server whether a run was stopped in W&B; False if it does not answer."""
    settings = wandb_settings()
    variables = {"projectName": run.project, "entityName": run.entity, "runId": run.id}
    try:
        answer = requests.post(
            f"{settings.base_url.rstrip('/')}/graphql",
            json={"query": STOPPED, "variables": variables},
            auth=("api", settings.api_key) if settings.api_key else None,  # else requests reads .netrc
            timeout=ANSWER_SECONDS,
        )
        return bool(answer.json()["data"]["project"]["run"]["stopped"])
    except (requests.RequestException, KeyError, TypeError, ValueError):
        return False
