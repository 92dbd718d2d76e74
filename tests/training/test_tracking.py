"""W&B follows a run where it can, and never stands in its way."""

import pytest
from tiny_run import command

NOWHERE = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}


@pytest.mark.parametrize(("server", "reason"), [({}, "no key"), (NOWHERE, "127.0.0.1 is out of reach")])
def test_without_key_or_network_the_run_is_kept_offline(tmp_path, server, reason):
    process = command(tmp_path, "wandb.enabled=true", "locator.fit.epochs=1", HOME=str(tmp_path), **server)
    output = process.communicate(timeout=120)[0]

    assert process.returncode == 0, output
    assert f"W&B: {reason}" in output
    assert len(list((tmp_path / "tiny" / "locator" / "wandb").glob("offline-run-*/*.wandb"))) == 1
