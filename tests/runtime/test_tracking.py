"""W&B logging falls back to offline, never stops a run, and by default sends nothing of data, machine and console."""

import socket
import sys

import pytest
from tiny_run import command, settings

SECRETS = {
    "root": "data.root=/secret-root/films",
    "table": "data.table.file=secret-table.csv",
    "column": "data.table.image=secret-column",
    "boxes": "data.roi=/secret-boxes/roi.csv",
    "ids": "data.split.test_ids=/secret-ids.csv",
    "cache": "data.cache=/secret-cache",
    "model": "locator.checkpoint=/secret-model/bundle",
    "weights": "estimator.hand.weights=/secret-weights.pt",
    "start": "joint.start=/secret-start/bundle",
}


def test_a_run_without_a_key_is_logged_offline(tmp_path):
    process = command(tmp_path, "wandb.enabled=true", "locator.fit.epochs=1", HOME=str(tmp_path))
    output = process.communicate(timeout=120)[0]

    assert process.returncode == 0, output
    assert "W&B: no API key" in output
    assert len(list((tmp_path / "tiny" / "locator" / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_a_run_without_a_network_is_logged_offline(tmp_path, monkeypatch, caplog):
    import wandb

    from baa.config.load import load
    from baa.runtime.tracking import wandb_logger

    caplog.set_level("INFO")
    monkeypatch.setattr(wandb.setup().settings, "api_key", "0" * 40)
    monkeypatch.setattr(wandb.setup().settings, "base_url", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb.setup().settings, "mode", "online")
    logger = wandb_logger("locator", load([], settings(tmp_path, "wandb.enabled=true")))

    assert "W&B: 127.0.0.1 cannot be reached; this run is logged offline" in caplog.text
    assert logger._wandb_init["mode"] == "offline"


@pytest.mark.parametrize("detail", ["shared", "full"])
def test_nothing_of_data_machine_and_console_is_logged_unless_asked_for(tmp_path, monkeypatch, detail):
    """Read the bytes that W&B would upload, and its own logs beside them."""
    import wandb

    from baa.config.load import load
    from baa.runtime.tracking import finish_run, wandb_logger

    work = tmp_path / "secret-folder"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "argv", ["fit", "secret-argument=1"])
    monkeypatch.setattr(socket, "gethostname", lambda: "secret-host")
    monkeypatch.setenv("USER", "secret-user")
    monkeypatch.setattr(wandb.setup().settings, "mode", "offline")
    config = load([], settings(work, "data.source=table", *SECRETS.values(), f"wandb.detail={detail}", "seed=12345"))
    logger = wandb_logger("locator", config)
    _ = logger.experiment
    sys.stdout.write("the row of secret-patient, 7 years\n")
    sys.stderr.write("its traceback: secret-patient\n")
    logger.log_metrics({"val/mae": 9.875}, step=1)
    finish_run()
    wandb.teardown()  # it writes what is left

    [run] = (work / "tiny" / "locator" / "wandb").glob("offline-run-*")
    written = {file.relative_to(run): file.read_bytes() for file in run.rglob("*") if file.is_file()}
    everything = b"".join(written.values())
    assert b"tiny-locator" in everything
    assert b"val/mae" in everything
    assert b"12345" in everything
    found = {
        word for word in ("folder", "host", "argument", "patient", "user", *SECRETS) if f"secret-{word}".encode() in everything
    }
    if detail == "shared":
        assert found == set()
        assert b"/" + tmp_path.name.encode() not in everything
    else:
        assert found >= {"root", "column", "argument", "folder", "patient"}


def test_it_sends_the_settings_that_a_shared_model_has(tmp_path):
    from baa.config.load import load, to_plain, to_share
    from baa.runtime.tracking import wandb_logger

    config = load([], settings(tmp_path, "locator.fit.lr=0.002"))
    sent = wandb_logger("locator", config)._wandb_init["config"]
    assert sent == to_share(to_plain(config))
    assert sent["locator"]["fit"]["lr"] == 0.002
