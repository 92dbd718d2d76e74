"""A fit reads each checkpoint once after its training, and writes each best.ckpt once when its stage is finished."""

from pathlib import Path

import pytest
import torch
from tiny_run import settings


@pytest.fixture
def loads(monkeypatch):
    """Files that `torch.load` reads, in order."""
    files, load = [], torch.load

    def noted_load(file, *more, **options):
        files.append(str(file))
        return load(file, *more, **options)

    monkeypatch.setattr(torch, "load", noted_load)
    return files


@pytest.fixture
def writes(monkeypatch):
    """Checkpoints that are written: (path, whether `finish_stage` writes it), in order."""
    from baa.runtime.checkpoint_io import AtomicCheckpointIO
    from baa.training import run

    written, finishing = [], []
    save, finish_stage = AtomicCheckpointIO.save_checkpoint, run.finish_stage

    def noted_save(self, checkpoint, path, storage_options=None):
        written.append((str(path), bool(finishing)))
        save(self, checkpoint, path, storage_options)

    def noted_finish(*arguments):
        finishing.append(True)
        result = finish_stage(*arguments)
        finishing.clear()
        return result

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", noted_save)
    monkeypatch.setattr(run, "finish_stage", noted_finish)
    return written


@pytest.mark.usefixtures("brief_finish")
def test_a_fit_of_two_stages_loads_at_most_three_checkpoints_and_completes_each_with_one_write(tmp_path, loads, writes):
    from baa.config.load import load
    from baa.training.run import run

    borrowed = ["estimator.carpal.weights=locator", "estimator.hand.weights=locator", "crops.boxes=cached"]
    short = ["data.phantom.count=40", "locator.fit.epochs=1", "estimator.fit.epochs=1"]
    run(load([], settings(tmp_path, *borrowed, *short)))

    assert len(loads) <= 3, loads
    for stage in ("locator", "estimator"):
        file = tmp_path / "tiny" / stage / "best.ckpt"
        assert [finishing for path, finishing in writes if Path(path) == file] == [False, True]
        record = torch.load(file, weights_only=True)["baa"]
        assert record["calibration"]["all"]
        assert record["input_check"]["weight"].any()
    assert not [path for path, finishing in writes if finishing and Path(path).name != "best.ckpt"]
