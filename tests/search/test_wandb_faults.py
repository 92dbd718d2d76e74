"""W&B at its worst, with its own client: what is wrong is said in one line, and a missing server does not stop a run."""

import os
import subprocess
import sys
import time

import pytest
from tiny_run import command, settings
from wandb_server import Server, serving

from baa.errors import InputError

KEY = "0" * 40
BRIEF = ["wandb.enabled=true", "locator.fit.epochs=1", "data.phantom.count=40"]


def fit(folder, server, *more, **environment):
    """Fit a locator with the account of a server; return exit code and output."""
    account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "HOME": str(folder)}
    process = command(folder, *BRIEF, *more, **account | environment)
    output = process.communicate(timeout=300)[0]
    assert "Traceback" not in output
    return process.returncode, output


def offline_runs(folder):
    return sorted((folder / "tiny" / "locator" / "wandb").glob("offline-run-*"))


def sync(folder, server, *runs, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "HOME": str(folder)}
    arguments = [sys.executable, "-m", "wandb", "sync", *map(str, runs)]
    done = subprocess.run(arguments, cwd=folder, env=clean | account | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rejected_key_ends_the_run_with_one_line_before_any_data_is_read(tmp_path):
    with serving(Server(refused={"": (401, "user is not logged in")})) as server:
        code, output = fit(tmp_path, server)

    assert code == 2, output
    assert output.splitlines()[-1] == (
        "baa: W&B: 127.0.0.1 rejects the API key (user is not logged in); `wandb login --relogin` stores another one, "
        "or go on without it: WANDB_MODE=offline, or wandb.enabled=false"
    )
    assert "cases: " not in output


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {"WANDB_API_KEY": "short"},
            r"W&B: API key must have 40\+ characters, has 5; `wandb login --relogin`",
        ),
        ({"WANDB_MODE": "on"}, "WANDB_MODE=on: Input should be 'online', 'offline', .*; correct it, or go on without it: "),
        ({"WANDB_MODE": ""}, "WANDB_MODE=: Input should be 'online', 'offline', "),
        ({"WANDB_BASE_URL": "nowhere"}, "WANDB_BASE_URL=nowhere: "),
    ],
)
def test_wrong_settings_are_refused_in_one_line(environment, line, session):
    from baa.runtime.wandb_access import logging_mode

    with serving(Server()) as server:
        session(server.url, **environment)
        with pytest.raises(InputError, match=line) as refusal:
            logging_mode()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("message", ["entity nobody not found during upsertBucket", "permission denied"])
def test_an_unknown_entity_is_refused_in_one_line(message, session, tmp_path):
    from baa.config.load import load
    from baa.runtime.tracking import wandb_logger

    with serving(Server(refused={"UpsertBucket": (404, message)})) as server:
        session(server.url)
        logger = wandb_logger("locator", load([], settings(tmp_path, "wandb.enabled=true", "wandb.entity=nobody")))
        with pytest.raises(InputError, match=f"^W&B: {message}; check wandb.entity and wandb.project, or go on without it: "):
            logger.start()


@pytest.mark.parametrize(
    ("mode", "used"), [("dryrun", "dryrun"), ("disabled", "disabled"), ("shared", "offline"), ("run", "offline")]
)
def test_every_mode_that_needs_a_server_is_offline_without_one(mode, used, session, monkeypatch):
    from baa.runtime import wandb_access

    monkeypatch.setattr(wandb_access, "ANSWER_SECONDS", 2)
    session("http://127.0.0.1:9", WANDB_MODE=mode)
    assert wandb_access.logging_mode() == used


def test_a_server_that_never_answers_makes_the_run_offline_and_it_can_be_synced_later(tmp_path):
    with serving(Server(silent=True)) as server:
        began = time.monotonic()
        code, output = fit(tmp_path, server)
        assert time.monotonic() - began < 120
    assert code == 0, output
    assert output.count("W&B: 127.0.0.1 cannot be reached; this run is logged offline, upload it later with `wandb sync`") == 1

    [run] = offline_runs(tmp_path)
    with serving(Server()) as server:
        sync(tmp_path, server, run)
    [(name, synced)] = server.runs.items()
    assert name == (tmp_path / "tiny" / "locator" / "wandb_run.txt").read_text()
    assert synced.config["locator"]["fit"]["epochs"] == 1
    assert synced.summary["test/mae"] > 0
    assert synced.exit_code == 0


def test_a_server_behind_an_http_proxy_is_reached(session, tmp_path):
    from baa.config.load import load
    from baa.runtime.tracking import finish_run, wandb_logger

    with serving(Server()) as server:
        address = server.url
        server.url = "http://wandb.invalid"  # no name server knows it
        session(server.url, http_proxy=address, no_proxy="")
        logger = wandb_logger("locator", load([], settings(tmp_path, "wandb.enabled=true")))
        logger.start()
        logger.log_metrics({"val/mae": 9.875}, step=1)
        finish_run()

    assert server.hosts == {"wandb.invalid"}
    [run] = server.runs.values()
    assert run.history[0]["val/mae"] == 9.875


def test_a_server_that_goes_between_its_answer_and_the_run_makes_it_offline(session, tmp_path, monkeypatch, caplog):
    from baa.config.load import load
    from baa.runtime import tracking

    caplog.set_level("INFO")
    session("http://127.0.0.1:9", WANDB_INIT_TIMEOUT="3")
    monkeypatch.setattr(tracking, "logging_mode", lambda: "online")
    logger = tracking.wandb_logger("locator", load([], settings(tmp_path, "wandb.enabled=true")))
    logger.start()
    assert logger.experiment.offline
    assert "this run is logged offline" in caplog.text
    tracking.finish_run()
    assert len(offline_runs(tmp_path)) == 1
