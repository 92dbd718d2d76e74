"""A session of W&B's own client in this process."""

import os
import subprocess
import threading

import pytest


@pytest.fixture
def session(monkeypatch, tmp_path):
    """Begin a session of W&B's client in this process, with an account and further variables."""
    import wandb

    from baa.runtime import wandb_access

    def end():
        if wandb.run is not None:  # of a test that failed
            wandb.finish()
        ending = threading.Thread(target=wandb.teardown, daemon=True)
        ending.start()
        ending.join(timeout=30)
        if ending.is_alive():  # its service has missed the message
            subprocess.run(["pkill", "-P", str(os.getpid()), "wandb-core"], check=False)
            ending.join()

    def begin(url, **environment):
        end()
        for name in [name for name in os.environ if name.startswith("WANDB")]:
            monkeypatch.delenv(name)
        account = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "HOME": str(tmp_path), "WANDB_DIR": str(tmp_path)}
        account["WANDB_FINISH_TIMEOUT"] = "20"  # a server that has gone
        for name, value in (account | environment).items():
            monkeypatch.setenv(name, value)
        wandb_access._is_available.cache_clear()

    yield begin
    end()
