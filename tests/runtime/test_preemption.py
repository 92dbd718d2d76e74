"""A run that is stopped, in whatever way, goes on to what the unbroken one comes to."""

import os
import signal
import time

import lightning as L
import pandas as pd
import pytest
import torch
from tiny_run import command, settings

LONG = [
    "data.phantom.count=120",
    "data.workers=1",
    "locator.fit.epochs=4",
    "locator.fit.schedule=onecycle",
    "locator.fit.batch_size=4",
    "locator.fit.ema=0.9",
    "locator.fit.grow_from=0.5",
]


def finish(process):
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return said


def told(folder):
    """What a run says of itself: its metrics, and its curve."""
    stage = folder / "tiny" / "locator"
    return (folder / "tiny" / "metrics.json").read_text(), (stage / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    finish(command(folder, *LONG))
    return folder


def stop(folder, how, rows, *more):
    """A run, stopped once its curve has so many rows, a moment into the epoch that follows."""
    process, curve = command(folder, *LONG, *more), folder / "tiny" / "locator" / "metrics.csv"
    deadline = time.monotonic() + 300
    last = curve.with_name("last.ckpt")
    while not last.exists() or len(pd.read_csv(curve)) < rows or last.stat().st_mtime_ns < curve.stat().st_mtime_ns:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(process.pid, how)  # as an agent or a shell does: its loader's processes get it too
    said = process.communicate(timeout=60)[0]
    assert "Traceback" not in said
    return process.returncode, said


@pytest.mark.parametrize(
    ("how", "after"),
    [(signal.SIGKILL, [2]), (signal.SIGUSR1, [1, 3]), pytest.param(signal.SIGTERM, [2], marks=pytest.mark.slow)],
)
def test_a_stopped_run_ends_as_the_unbroken_one(how, after, unbroken, tmp_path):
    for rows in after:
        code, said = stop(tmp_path, how, rows)
        graceful = how != signal.SIGKILL
        assert code == (128 + how if graceful else -how), said
        assert (f"stopped by {how.name}; the same command goes on" in said) == graceful
        if graceful:
            loop = torch.load(tmp_path / "tiny" / "locator" / "last.ckpt", weights_only=True)["loops"]["fit_loop"]
            assert not loop["epoch_loop.batch_progress"]["is_last_batch"]
        assert not (tmp_path / "tiny" / "metrics.json").exists()
    said = finish(command(tmp_path, *LONG))

    assert "resumes after epoch" in said
    assert (" batches\n" in said) == graceful
    assert told(tmp_path) == told(unbroken)


def test_another_number_of_processes_does_not_go_on(tmp_path):
    stop(tmp_path, signal.SIGUSR1, 1)
    process = command(tmp_path, *LONG, "trainer.devices=2", "trainer.accelerator=cpu")
    said = process.communicate(timeout=60)[0]

    assert process.returncode == 2
    assert "was written by a job of 1 processes, this one has 2" in said


def test_a_signal_after_the_last_batch_ends_the_run_before_it_is_judged(tmp_path):
    from baa.runtime.preemption import Preempted, Preemption, Stop

    trainer, module = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), L.LightningModule()
    trainer.fit_loop.epoch_progress.current.completed = 3
    trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
    stop = Stop()
    callback = Preemption(stop, tmp_path / "last.ckpt")
    stop.deferred = True
    stop._hear(signal.SIGUSR1, None)
    callback.on_train_batch_end(trainer, module, None, None, 0)
    for leave in (callback.on_train_epoch_start, callback.on_train_end):
        with pytest.raises(Preempted) as left:
            leave(trainer, module)
        assert left.value.code == 138


def test_a_signal_outside_of_training_ends_the_run_at_once():
    from baa.runtime.preemption import Preempted, listening

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as left, listening():
        signal.raise_signal(signal.SIGTERM)
    assert left.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_forked_child_is_ended_by_a_signal_as_ever():
    from baa.runtime.preemption import listening

    with listening() as stop:
        stop.deferred = True
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGTERM)
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


def test_a_checkpoint_that_is_cut_short_is_passed_over(unbroken, tmp_path):
    code, _ = stop(tmp_path, signal.SIGTERM, 2)
    assert code == 143
    last = tmp_path / "tiny" / "locator" / "last.ckpt"
    os.truncate(last, last.stat().st_size // 2)
    said = finish(command(tmp_path, *LONG))

    assert f"passed over: checkpoint: {last} cannot be read, it may be cut short" in said
    assert "resumes after epoch" in said
    assert told(tmp_path) == told(unbroken)


def test_two_half_batches_make_the_step_of_a_whole_one(tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    plain = [
        "locator.backbone.name=test_efficientnet_ln",
        *(f"data.augment.{name}=0" for name in ("degrees", "scale", "shift")),
    ]
    plain += [f"data.augment.{name}=0" for name in ("contrast", "brightness", "flip")]
    ends = []
    for batch, accumulate in ((8, 1), (4, 2)):
        fit = [f"locator.fit.batch_size={batch}", f"locator.fit.accumulate={accumulate}", f"name=of{accumulate}"]
        run(load(None, settings(tmp_path, "stages=[locator]", *plain, *fit)))
        ends.append(torch.load(tmp_path / f"of{accumulate}" / "locator" / "last.ckpt", weights_only=True))
    assert ends[0]["global_step"] == ends[1]["global_step"]
    for name, tensor in ends[0]["state_dict"].items():
        torch.testing.assert_close(ends[1]["state_dict"][name], tensor, atol=1e-4, rtol=0, msg=name)


def test_in_a_folder_that_was_moved_the_best_epoch_is_known_again(tmp_path):
    from baa.training.resume import FolderCheckpoint

    old, new = (FolderCheckpoint(tmp_path / name, filename="best", monitor="val/mae") for name in ("old", "new"))
    old.best_model_path = old.kth_best_model_path = str(tmp_path / "old" / "best.ckpt")
    old.best_model_score = old.kth_value = torch.tensor(7.0)
    old.best_k_models = {old.best_model_path: old.best_model_score}
    new.load_state_dict(old.state_dict())

    assert new.best_k_models == {str(tmp_path / "new" / "best.ckpt"): 7.0}
    assert new.best_model_path == new.kth_best_model_path == str(tmp_path / "new" / "best.ckpt")
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert [new.check_monitor_top_k(trainer, torch.tensor(months)) for months in (8.0, 6.0)] == [False, True]
