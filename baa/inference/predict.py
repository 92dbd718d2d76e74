"""Files to months: the logic of `python -m baa.predict`."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from baa.assembly.modules import crop_arguments
from baa.assembly.trainer import build_lone_trainer
from baa.atomic_io import make_folder
from baa.checkpoints.load import digest, restore
from baa.checkpoints.trained_model import Restored
from baa.config.load import load
from baa.data.batch import Batch
from baa.data.cache import FORMAT
from baa.inference.files import FileDataModule, FileSample
from baa.inference.inputs import Asked
from baa.inference.parts import Shards
from baa.inference.rows import COLUMNS, Answers, Overlays
from baa.inference.tta import disagreement
from baa.machine import keep_freed_memory
from baa.metrics.coverage import COVERAGE
from baa.modules.base import AgeModule
from baa.nets.cropper import RegionCropper
from baa.runtime.distributed import place_in_job
from baa.runtime.preemption import StopAtOnce, stoppable

TABLE, PARTS, OVERLAYS = "predictions.csv", "parts", "overlays"
READING = 2
"""Counted up whenever the same model would answer otherwise of the same pixels."""


def predict(
    checkpoint: Path,
    asked: Sequence[Asked],
    out: Path,
    *,
    coverage: float = COVERAGE,
    overlays: bool = True,
    strict: bool = False,
    disagree: bool = False,
    batch_size: int,
    workers: int,
    progress: bool = True,
) -> tuple[int, int | None]:
    """Estimate the bone age of every file, and write `out/predictions.csv`, a row a file, in the order given.

    Started by torchrun or srun, each process reads its share of the files. The parts of the table lie in `out/parts/`: started
    again, with as many processes or others, the same job does only what is missing. Those of a job of one process are removed
    once the table is whole; those of several stay, since another process may still look for them.

    Args:
        checkpoint: of any stage, or a bundle.
        asked: the files, and what is known of their patients.
        out: a folder, made if need be.
        coverage: share of the intervals that are to hold the truth.
        overlays: whether to draw `out/overlays/NAME.png` of each file.
        strict: whether a file whose answer cannot be relied on is refused instead.
        disagree: whether to say how far apart readings of each film are when it is mirrored and turned a little.
        batch_size: radiographs at a time.
        workers: processes that decode.
        progress: whether to draw a bar.

    Returns:
        How many files there are, and how many of them could not be read; None while other processes are still at their share.

    Raises:
        InputError: the checkpoint cannot be used, or the folder not be made.
    """
    restored = restore(checkpoint)
    make_folder(out)
    keep_freed_memory()
    restored.lineage.tell()
    draw = Overlays(out / OVERLAYS, asked) if overlays else None
    answers = Answers(asked, restored.calibration, coverage, draw, strict=strict)
    job = _job(checkpoint, restored, answers, disagree)
    how: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    return predict_files(restored, answers, out, job=job, disagree=disagree, **how)


def _job(checkpoint: Path, restored: Restored, answers: Answers, disagree: bool) -> str:
    """A name that follows from the model, from how it reads, and from the files as they are.

    Parts of another job answer another question.
    """
    how = f"{digest(checkpoint)}:{json.dumps(restored.settings['crops'])}:{FORMAT}:{READING}:{answers.coverage}"
    how += f":{answers.draw is not None}:{answers.strict}:{disagree}:{sorted(answers.calibration.items())}:{COLUMNS}"
    said = hashlib.blake2b(how.encode(), digest_size=8)
    for one in answers.asked:
        said.update(f"{one.sex}:{one.months}:{one.by}:".encode() + os.fsencode(one.file))
        with contextlib.suppress(OSError):  # one that is gone will be a row with its reason
            state = one.file.stat()
            said.update(f":{state.st_size}:{state.st_mtime_ns}\n".encode())
    return said.hexdigest()


def predict_files(
    restored: Restored,
    answers: Answers,
    out: Path,
    *,
    job: str,
    disagree: bool = False,
    batch_size: int,
    workers: int,
    progress: bool,
) -> tuple[int, int | None]:
    """`predict` with a checkpoint that has been read; `job` names it and the files."""
    asked = answers.asked
    process, processes = place_in_job()
    config = load(None, [f"trainer.progress={progress and not process}"], base=restored.settings)
    crop = None
    if restored.locator is not None:
        crop = RegionCropper(restored.locator, **crop_arguments(config)).requires_grad_(False)
    shards = Shards(out / PARTS / job, len(asked), COLUMNS)
    missing = list(shards.missing(process, processes))
    if missing:
        places = [place for part in missing for place in part]
        px = config.data.source_px
        recogniser = restored.recogniser
        data = FileDataModule(asked, places, px=px, crop=crop, recogniser=recogniser, batch_size=batch_size, workers=workers)
        writer = PredictionWriter(shards, missing, answers, crop, disagree=disagree)
        with stoppable("the same command reads what is missing", lone=True) as stop:
            trainer = build_lone_trainer(config, [writer, StopAtOnce(stop)])
            trainer.predict(restored.module, data, return_predictions=False)
    filled = shards.merge(out / TABLE)
    if filled is None:
        return len(asked), None
    if processes == 1:
        shards.remove()
    return len(asked), filled["error"]


class PredictionWriter(BasePredictionWriter):
    """Rows as they come, into parts of the table; memory does not grow with the files.

    Args:
        shards: that take them.
        parts: the places of the files of each part, in the order they come in.
        answers: what is said of each file.
        crop: that cuts the regions, None of a network of the whole hand.
        disagree: whether each film is read in other ways too.
    """

    def __init__(
        self, shards: Shards, parts: Sequence[range], answers: Answers, crop: RegionCropper | None, *, disagree: bool
    ) -> None:
        super().__init__("batch")
        self.shards = shards
        self.parts = iter(parts)
        self.answers = answers
        self.crop = crop
        self.disagree = disagree
        self.part = range(0)
        self.rows: list[dict[str, Any]] = []

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: tuple[Batch, FileSample],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        whole, sample = batch
        assert isinstance(pl_module, AgeModule)
        apart = disagreement(pl_module, whole, self.crop) if self.disagree else None
        for i in range(len(prediction)):
            if not self.rows:
                self.part = next(self.parts)
            self.rows.append(self.answers.give(i, prediction, whole, sample, apart))
            if len(self.rows) == len(self.part):
                self.shards.write(self.part.start, self.rows)
                self.rows = []
