"""Checkpoint files are complete, survive a move of their folder, and are the same for all processes."""

import resource

import lightning as L
import pytest
import torch

from baa.errors import InputError
from baa.runtime.callbacks import CheckpointRecord
from baa.runtime.checkpoint_io import AtomicCheckpointIO, CheckSameStart, FolderCheckpoint


@pytest.fixture
def trainer():
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    file = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, file)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limit[1]))
    try:
        with pytest.raises(InputError, match=r"last.ckpt: cannot write the file \(.*; free disk space"):
            AtomicCheckpointIO().save_checkpoint({"step": 2, "weights": torch.zeros(1 << 16)}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    assert torch.load(file, weights_only=True) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_moved_folder_keeps_the_best_epoch(trainer, tmp_path):
    old, new = (FolderCheckpoint(tmp_path / name, filename="best", monitor="val/mae") for name in ("old", "new"))
    old.best_model_path = old.kth_best_model_path = str(tmp_path / "old" / "best.ckpt")
    old.best_model_score = old.kth_value = torch.tensor(7.0)
    old.best_k_models = {old.best_model_path: old.best_model_score}
    new.load_state_dict(old.state_dict())

    assert new.best_k_models == {str(tmp_path / "new" / "best.ckpt"): 7.0}
    assert new.best_model_path == new.kth_best_model_path == str(tmp_path / "new" / "best.ckpt")
    assert [new.check_monitor_top_k(trainer, torch.tensor(months)) for months in (8.0, 6.0)] == [False, True]


def test_processes_that_start_from_different_steps_are_refused(trainer, monkeypatch):
    CheckSameStart().on_train_start(trainer, L.LightningModule())
    monkeypatch.setattr(trainer.strategy, "broadcast", lambda own: (2, 14))
    with pytest.raises(InputError, match="starts from epoch 0, step 0, but rank 0 from epoch 2, step 14; give all processes"):
        CheckSameStart().on_train_start(trainer, L.LightningModule())


def test_a_checkpoint_has_the_record_and_the_world_size(trainer):
    checkpoint = {}
    CheckpointRecord({"stage": "locator"}).on_save_checkpoint(trainer, L.LightningModule(), checkpoint)

    assert checkpoint == {"baa": {"stage": "locator", "processes": 1}}
