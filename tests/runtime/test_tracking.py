"""W&B logging falls back to offline and never stops a run."""

from tiny_run import command, settings


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
