"""Files to months: the logic of `python -m baa.predict`."""

import contextlib
import hashlib
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from baa.config import load
from baa.data.batches import Batch
from baa.data.files import FileDataModule, FileSample
from baa.data.inputs import Asked
from baa.data.radiograph import padding
from baa.memory import keep_freed_memory
from baa.nets.fusion import Sex
from baa.nets.regions import REGIONS, RegionCropper
from baa.report.conformal import COVERAGE, interval_of
from baa.training.checkpoints import digest, restore
from baa.training.networks import crop_arguments
from baa.training.processes import place_in_job
from baa.training.restored import Restored
from baa.training.shards import Shards
from baa.training.trainer import build_lone_trainer
from baa.training.verdict import CORNERS

BOX_COLUMNS = tuple(f"{region}_{corner}" for region in REGIONS for corner in CORNERS)
COLUMNS = (
    "file",
    "sex",
    "sex_from",
    "age_months",
    "bone_age_months",
    "lower_months",
    "upper_months",
    "bone_age",
    *BOX_COLUMNS,
    "warnings",
    "error",
)
TABLE, PARTS = "predictions.csv", "parts"


def predict(
    checkpoint: Path,
    asked: Sequence[Asked],
    out: Path,
    *,
    coverage: float = COVERAGE,
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
        batch_size: radiographs at a time.
        workers: processes that decode.
        progress: whether to draw a bar.

    Returns:
        How many files there are, and how many of them could not be read; None while other processes are still at their share.

    Raises:
        InputError: the checkpoint cannot be used.
    """
    restored = restore(checkpoint)
    keep_freed_memory()
    restored.lineage.tell()
    job = _job(checkpoint, asked, coverage)
    loading: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "progress": progress}
    return predict_files(restored, asked, out, job=job, coverage=coverage, **loading)


def _job(checkpoint: Path, asked: Sequence[Asked], coverage: float) -> str:
    """A name that follows from the model and from the files as they are: parts of another job answer another question."""
    said = hashlib.blake2b(f"{digest(checkpoint)}:{coverage}".encode(), digest_size=8)
    for one in asked:
        said.update(f"{one.sex}:{one.months}:{one.by}:".encode() + os.fsencode(one.file))
        with contextlib.suppress(OSError):  # one that is gone will be a row with its reason
            state = one.file.stat()
            said.update(f":{state.st_size}:{state.st_mtime_ns}\n".encode())
    return said.hexdigest()


def predict_files(
    restored: Restored,
    asked: Sequence[Asked],
    out: Path,
    *,
    job: str,
    coverage: float = COVERAGE,
    batch_size: int,
    workers: int,
    progress: bool,
) -> tuple[int, int | None]:
    """`predict` with a checkpoint that has been read; `job` names it and the files."""
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
        data = FileDataModule(asked, places, px=px, crop=crop, batch_size=batch_size, workers=workers)
        trainer = build_lone_trainer(
            config, [PredictionWriter(shards, missing, asked, partial(interval_of, restored.calibration, coverage=coverage))]
        )
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
        asked: what `FileSample.place` counts in.
        bounds: of the interval about an age in months of somebody of a sex.
    """

    def __init__(
        self,
        shards: Shards,
        parts: Sequence[range],
        asked: Sequence[Asked],
        bounds: Callable[..., tuple[float, float] | None],
    ) -> None:
        super().__init__("batch")
        self.shards = shards
        self.parts = iter(parts)
        self.asked = asked
        self.bounds = bounds
        self.part = range(0)
        self.rows: list[dict[str, Any]] = []

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Lightning's handler takes note and goes on to the last file

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
        for i in range(len(prediction)):
            if not self.rows:
                self.part = next(self.parts)
            self.rows.append(self._row(i, prediction, whole, sample))
            if len(self.rows) == len(self.part):
                self.shards.write(self.part.start, self.rows)
                self.rows = []

    def _row(self, i: int, months: Tensor, batch: Batch, sample: FileSample) -> dict[str, Any]:
        file, sex = self.asked[int(sample.place[i])].file, Sex(int(sample.sex[i]))
        row: dict[str, Any] = {"file": str(file), "sex": sex.name.lower(), "sex_from": sample.sex_from[i]}
        if sample.error[i]:
            return row | {"error": sample.error[i]}
        if sample.months[i].isfinite():
            row["age_months"] = round(float(sample.months[i]), 1)
        warnings = [sample.notes[i]] if sample.notes[i] else []
        row["bone_age_months"] = round(float(months[i]), 1)
        row["bone_age"] = years_and_months(float(months[i]))
        if interval := self.bounds(sex=sex, months=float(months[i])):
            row["lower_months"], row["upper_months"] = (round(edge, 1) for edge in interval)
        if batch.regions is not None and batch.regions.fallback is not None:
            left, top, side = padding(*map(int, sample.size[i]))
            pixels = (batch.regions.boxes[i].cpu() - torch.tensor([left, top, left, top])) * side
            row |= {name: round(x, 1) for name, x in zip(BOX_COLUMNS, pixels.flatten().tolist(), strict=True)}
            lost = zip(REGIONS, batch.regions.fallback[i].tolist(), strict=True)
            warnings += [f"no {region} region seen, a typical box stands in" for region, fallback in lost if fallback]
        return row | {"warnings": "; ".join(warnings)}


def years_and_months(months: float) -> str:
    """As clinicians write an age: 12 y 3 m."""
    years, rest = divmod(round(months), 12)
    return f"{years} y {rest} m"
