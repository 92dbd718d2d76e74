"""A stopped run resumes and reaches the results of an uninterrupted run."""

import os
import re
import shutil
import signal
import time

import lightning as L
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
    "locator.fit.progressive_resize_from=0.5",
]


def finish(process):
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return output


def results(folder):
    """A run's metrics and learning curve, as text."""
    stage = folder / "tiny" / "locator"
    return (folder / "tiny" / "metrics.json").read_text(), (stage / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    finish(command(folder, *LONG))
    return folder


BATCHES = 19
"""Training batches of an epoch, 77 cases in batches of 4."""

STOPPING = """
import os
from baa.cli import run_command
from baa.fit import main
from baa.runtime.preemption import Preemption

def batch_ends(self, trainer, *arguments, ends=Preemption.on_train_batch_end):
    if trainer.global_step == {step}:
        os.killpg(os.getpgid(0), {how})  # an agent or a shell signals the loader's processes too
    return ends(self, trainer, *arguments)

Preemption.on_train_batch_end = batch_ends
run_command(main)
"""


def stop(folder, how, epochs):
    """Stop a run in the middle of the epoch after `epochs` whole ones; return its exit code and output."""
    (folder / "stopping.py").write_text(STOPPING.format(step=BATCHES * epochs + 9, how=int(how)))
    process = command(folder, *LONG, program=[str(folder / "stopping.py")])
    output = process.communicate(timeout=300)[0]
    assert "Traceback" not in output
    return process.returncode, output


@pytest.fixture
def stopped(tmp_path):
    """A folder in which SIGKILL stopped a run and the newest checkpoint is cut short, then SIGUSR1 stopped it again."""
    code, output = stop(tmp_path, signal.SIGKILL, 1)
    assert code == -signal.SIGKILL, output
    cut_short(tmp_path)
    code, output = stop(tmp_path, signal.SIGUSR1, 2)
    assert f"skipped: checkpoint: {last_of(tmp_path)} cannot be read, it may be cut short" in output
    assert "resumes after epoch 1 of 4\n" in output
    check_stop(tmp_path, signal.SIGUSR1, code, output)
    return tmp_path


def last_of(folder):
    return folder / "tiny" / "locator" / "last.ckpt"


def cut_short(folder):
    os.truncate(last_of(folder), last_of(folder).stat().st_size // 2)


def check_stop(folder, how, code, output):
    """A signal that can be handled ends a run within an epoch, says so, and keeps its state; SIGKILL just ends it."""
    graceful = how != signal.SIGKILL
    assert code == (128 + how if graceful else -how), output
    assert bool(re.search(f"stopped by {how.name}; .*same command", output)) == graceful
    if graceful:
        loop = torch.load(last_of(folder), weights_only=True)["loops"]["fit_loop"]
        assert not loop["epoch_loop.batch_progress"]["is_last_batch"]
    assert not (folder / "tiny" / "metrics.json").exists()


def test_a_run_stopped_twice_reaches_the_results_of_an_unbroken_one(stopped, unbroken):
    output = finish(command(stopped, *LONG))

    assert "resumes after epoch 2 of 4 and 9 batches\n" in output
    assert results(stopped) == results(unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "epochs"), [(signal.SIGKILL, 2), (signal.SIGUSR1, 1), (signal.SIGUSR2, 3), (signal.SIGTERM, 2)]
)
def test_each_signal_stops_a_run_that_reaches_the_results_of_an_unbroken_one(how, epochs, unbroken, tmp_path):
    check_stop(tmp_path, how, *stop(tmp_path, how, epochs))
    output = finish(command(tmp_path, *LONG))

    kept = "" if how == signal.SIGKILL else " and 9 batches"
    assert f"resumes after epoch {epochs} of 4{kept}\n" in output
    assert results(tmp_path) == results(unbroken)


def test_another_number_of_processes_is_refused(unbroken, tmp_path):
    from baa.config.load import load
    from baa.errors import InputError
    from baa.training.run import run

    shutil.copytree(unbroken / "tiny", tmp_path / "tiny", ignore=shutil.ignore_patterns("metrics.json"))
    two = ["trainer.devices=2", "trainer.accelerator=cpu"]
    with pytest.raises(InputError, match="it was written by 1 processes, this job has 2; start as many, or give another name="):
        run(load([], settings(tmp_path, "stages=[locator]", *LONG, *two)))


def test_a_signal_after_the_last_batch_ends_the_run_before_its_evaluation(tmp_path):
    from baa.runtime.preemption import Preempted, Preemption, SignalHandler

    trainer, module = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), L.LightningModule()
    trainer.fit_loop.epoch_progress.current.completed = 3
    trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True
    handler = SignalHandler()
    callback = Preemption(handler, tmp_path / "last.ckpt", every=10)
    handler.deferred = True
    handler._on_signal(signal.SIGUSR1, None)
    callback.on_train_batch_end(trainer, module, None, None, 0)
    for hook in (callback.on_train_epoch_start, callback.on_train_end):
        with pytest.raises(Preempted) as preempted:
            hook(trainer, module)
        assert preempted.value.code == 138


def test_a_second_interrupt_is_not_deferred():
    from baa.runtime.preemption import Preempted, SignalHandler

    handler = SignalHandler()
    handler.deferred = True
    handler._on_signal(signal.SIGINT, None)
    with pytest.raises(Preempted):
        handler._on_signal(signal.SIGINT, None)


def test_a_deferred_signal_ends_the_run_once_no_batch_has_ended_for_a_while(monkeypatch):
    from baa.runtime import preemption
    from baa.runtime.preemption import Preempted, handle_signals

    monkeypatch.setattr(preemption, "PATIENCE_SECONDS", 2)

    def stalls_after_three_batches():
        with handle_signals() as handler:
            handler.deferred = True
            signal.raise_signal(signal.SIGTERM)
            for _ in range(3):
                time.sleep(1)
                handler.batch_ended()
            time.sleep(30)  # as a read from a queue that gets nothing

    began = time.monotonic()
    with pytest.raises(Preempted) as preempted:
        stalls_after_three_batches()
    assert 4 < time.monotonic() - began < 15
    assert preempted.value.code == 143


STALLING = """
import sys, time
from baa.data import batch
from baa.runtime import preemption
from baa.cli import run_command
from baa.fit import main

def pixels(self, index, pixels=batch.RadiographDataset._pixels):
    if index == 11:
        time.sleep(1000)
    return pixels(self, index)

batch.RadiographDataset._pixels = pixels
preemption.PATIENCE_SECONDS = 2
run_command(main)
"""


def test_a_signal_ends_a_run_whose_loader_stalls(tmp_path):
    (tmp_path / "stalling.py").write_text(STALLING)
    process = command(tmp_path, *LONG, "data.augment.flip=0", program=[str(tmp_path / "stalling.py")])
    lines = iter(process.stdout.readline, "")
    assert any("M parameters" in line for line in lines)
    time.sleep(3)
    os.killpg(process.pid, signal.SIGTERM)
    output = process.communicate(timeout=60)[0]

    assert process.returncode == 143, output
    assert output.splitlines()[-1] == "stopped by SIGTERM; run the same command to continue"


def test_a_signal_outside_training_ends_the_run_at_once():
    from baa.runtime.preemption import Preempted, handle_signals

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted) as preempted, handle_signals():
        signal.raise_signal(signal.SIGTERM)
    assert preempted.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_stopped_work_logs_the_consequence_and_independent_ranks_exit_with_the_signal(caplog, monkeypatch):
    from lightning.pytorch.utilities import rank_zero_only

    from baa.runtime.preemption import Preempted, stoppable_work

    caplog.set_level("INFO")
    for rank, independent, code in ((0, False, 143), (1, False, 0), (1, True, 143)):
        monkeypatch.setattr(rank_zero_only, "rank", rank)
        with pytest.raises(Preempted) as preempted, stoppable_work("nothing is kept", independent=independent):
            signal.raise_signal(signal.SIGTERM)
        assert preempted.value.code == code
    assert caplog.messages == ["stopped by SIGTERM; nothing is kept"]


def test_a_signal_ends_a_forked_child_as_usual():
    from baa.runtime.preemption import handle_signals

    with handle_signals() as handler:
        handler.deferred = True
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGTERM)
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


@pytest.mark.slow
def test_a_run_without_a_whole_last_checkpoint_reaches_the_results_of_an_unbroken_one(unbroken, tmp_path):
    code, _ = stop(tmp_path, signal.SIGTERM, 2)
    assert code == 143
    cut_short(tmp_path)
    finish(command(tmp_path, *LONG))

    assert results(tmp_path) == results(unbroken)


@pytest.mark.usefixtures("brief_finish")
def test_two_accumulated_half_batches_equal_a_whole_batch(tmp_path):
    from baa.config.load import load
    from baa.training.run import run

    plain = [
        "locator.backbone.name=test_efficientnet_ln",
        *(f"data.augment.{name}=0" for name in ("degrees", "scale", "shift")),
    ]
    plain += [f"data.augment.{name}=0" for name in ("contrast", "brightness", "flip")]
    ends = []
    for batch, accumulate in ((8, 1), (4, 2)):
        fit = [f"locator.fit.batch_size={batch}", f"locator.fit.accumulate_grad_batches={accumulate}", f"name=of{accumulate}"]
        run(load([], settings(tmp_path, "stages=[locator]", "locator.fit.epochs=1", *plain, *fit)))
        ends.append(torch.load(tmp_path / f"of{accumulate}" / "locator" / "last.ckpt", weights_only=True))
    assert ends[0]["global_step"] == ends[1]["global_step"]
    for name, tensor in ends[0]["state_dict"].items():
        torch.testing.assert_close(ends[1]["state_dict"][name], tensor, atol=1e-4, rtol=0, msg=name)
