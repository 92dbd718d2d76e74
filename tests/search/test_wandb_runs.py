"""What a W&B run holds, by W&B's own client against the local server: steps, best values, tables, artifacts, how it ended."""

import json
import signal
import time

import pandas as pd
import pytest
from tiny_run import settings
from wandb_server import Server, serving

from baa.runtime import tracking
from baa.runtime.preemption import Preempted, handle_signals


def started(folder, *more):
    """The logger of a stage whose run has begun."""
    from baa.config.load import load

    logger = tracking.wandb_logger("locator", load([], settings(folder, "wandb.enabled=true", *more)))
    logger.start()
    return logger


def test_summaries_hold_the_best_and_a_resumed_run_has_no_step_twice(session, tmp_path):
    with serving(Server()) as server:
        session(server.url)
        logger = started(tmp_path)
        for step, mae, r2 in ((2, 12.0, 0.1), (4, 9.0, 0.5), (6, 11.0, 0.3)):
            logger.log_metrics({"val/mae": mae, "val/r2": r2, "train/loss": mae}, step)
        tracking.finish_run()
        logger = started(tmp_path)  # from a checkpoint of step 2
        for step, mae, r2 in ((4, 9.0, 0.5), (6, 11.0, 0.3), (8, 10.0, 0.4)):
            logger.log_metrics({"val/mae": mae, "val/r2": r2, "train/loss": mae}, step)
        logger.log_metrics({"test/mae": 10.5})
        tracking.finish_run()

    [run] = server.runs.values()
    assert [row["trainer/global_step"] for row in run.history] == [2, 4, 6, 6, 8, 8]
    assert [row["_step"] for row in run.history] == list(range(6))
    assert (run.summary["val/mae"], run.summary["val/r2"], run.summary["train/loss"]) == (
        {"min": 9.0},
        {"max": 0.5},
        {"min": 9.0},
    )
    assert run.summary["test/mae"] == 10.5


def test_a_requeued_trial_keeps_its_best_too(session, tmp_path):
    """Its run starts before the data is read; the stage takes it over."""
    from baa.config.load import load

    config = load([], settings(tmp_path, "wandb.enabled=true", "stages=[locator]"))
    with serving(Server()) as server:
        for mae in (9.0, 11.0):
            session(server.url, WANDB_RUN_ID="run0")
            tracking.begin_tracking(config)
            logger = tracking.wandb_logger("locator", config)
            logger.start()
            logger.log_metrics({"val/mae": mae}, step=int(mae))
            tracking.finish_run()

    assert server.runs["run0"].summary["val/mae"] == {"min": 9.0}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_run_that_a_signal_stopped_is_preempted_and_not_finished(signum, session, tmp_path):
    with serving(Server()) as server:
        session(server.url)
        started(tmp_path)
        tracking.end_stopped_run(signum)

    [run] = server.runs.values()
    assert (run.preempting, run.exit_code) == (True, 128 + signum)


def test_a_run_that_is_stopped_in_wandb_is_not_given_to_an_agent_again(session, tmp_path):
    def wait_for_the_stop():
        with handle_signals():
            logger = started(tmp_path)
            server.stopped.add(logger.experiment.id)
            for second in range(90):  # its client sends every 15 seconds, and asks for the answer every 15 seconds
                logger.log_metrics({"val/mae": 9.0}, step=second)
                time.sleep(1)

    with serving(Server()) as server:
        session(server.url)
        with pytest.raises(Preempted) as stop:
            wait_for_the_stop()
        tracking.end_stopped_run(stop.value.signum)

    [run] = server.runs.values()
    assert (run.preempting, run.exit_code) == (False, 130)


def test_a_trial_that_its_agent_ends_because_it_was_stopped_in_wandb_is_not_either(session, tmp_path, monkeypatch):
    with serving(Server()) as server:
        session(server.url)
        run = started(tmp_path).experiment
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
        server.stopped.add(run.id)  # and the agent sends SIGTERM before the run's client has asked
        tracking.end_stopped_run(signal.SIGTERM)

    [run] = server.runs.values()
    assert (run.preempting, run.exit_code) == (False, 143)


def test_a_bundle_is_kept_as_an_artifact_with_its_card(session, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    card = {"format": 2, "stage": "locator", "scores": {"test/mae": 7.5}}
    (bundle / "card.json").write_text(json.dumps(card))
    (bundle / "weights.safetensors").write_bytes(b"weights")
    with serving(Server()) as server:
        session(server.url)
        started(tmp_path)
        tracking.keep_bundle(bundle, "fusion/run 0-locator")
        tracking.finish_run()

    assert server.unknown == []
    [artifact] = server.artifacts
    assert (artifact["name"], artifact["type"], artifact["metadata"]) == ("fusion-run-0-locator", "model", card)
    assert artifact["files"] == {"card.json", "weights.safetensors"}


def test_predictions_are_sent_as_a_table(session, tmp_path):
    with serving(Server()) as server:
        session(server.url)
        logger = started(tmp_path)
        logger.log_table("predictions", dataframe=pd.DataFrame({"id": ["a", "b"], "predicted_months": [60.5, 71.0]}))
        tracking.finish_run()

    assert server.unknown == []
    [row] = server.runs.popitem()[1].history
    assert (row["predictions"]["_type"], row["predictions"]["nrows"]) == ("table-file", 2)
