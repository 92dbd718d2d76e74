"""W&B follows a run where it can, and never stands in its way."""

from tiny_run import command, settings


def test_without_a_key_the_run_is_kept_offline(tmp_path):
    process = command(tmp_path, "wandb.enabled=true", "locator.fit.epochs=1", HOME=str(tmp_path))
    output = process.communicate(timeout=120)[0]

    assert process.returncode == 0, output
    assert "W&B: no key" in output
    assert len(list((tmp_path / "tiny" / "locator" / "wandb").glob("offline-run-*/*.wandb"))) == 1


def test_without_a_network_too(tmp_path, monkeypatch, caplog):
    import wandb

    from baa.config.load import load
    from baa.runtime.tracking import wandb_logger

    caplog.set_level("INFO")
    monkeypatch.setattr(wandb.setup().settings, "api_key", "0" * 40)
    monkeypatch.setattr(wandb.setup().settings, "base_url", "http://127.0.0.1:9")
    monkeypatch.setattr(wandb.setup().settings, "mode", "online")
    logger = wandb_logger("locator", load(None, settings(tmp_path, "wandb.enabled=true")))

    assert "W&B: 127.0.0.1 is out of reach; this run is kept offline" in caplog.text
    assert logger._wandb_init["mode"] == "offline"
