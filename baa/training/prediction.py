"""Files to months: the logic of `python -m baa.predict`."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from baa.config import load
from baa.data.batches import Batch
from baa.data.files import FileDataModule, FileSample, find_images
from baa.data.radiograph import padding
from baa.memory import keep_freed_memory
from baa.nets.fusion import Sex
from baa.nets.regions import REGIONS, RegionCropper
from baa.training.checkpoints import restore
from baa.training.networks import crop_arguments
from baa.training.restored import Restored
from baa.training.trainer import build_trainer
from baa.training.verdict import CORNERS

BOX_COLUMNS = tuple(f"{region}_{corner}" for region in REGIONS for corner in CORNERS)
COLUMNS = ("file", "sex", "bone_age_months", *BOX_COLUMNS, "warnings", "error")


def predict(
    checkpoint: Path,
    inputs: Sequence[Path],
    sex: Sex,
    out: Path,
    *,
    batch_size: int,
    workers: int,
    progress: bool = True,
) -> tuple[int, int]:
    """Estimate the bone age of every file, and write `out/predictions.csv`, a row a file, in the order given.

    Args:
        checkpoint: of any stage, or a bundle.
        inputs: image files, or folders of them.
        sex: of all of them.
        out: a folder, made if need be.
        batch_size: radiographs at a time.
        workers: processes that decode.
        progress: whether to draw a bar.

    Returns:
        How many files there were, and how many of them could not be read.

    Raises:
        InputError: the checkpoint or an input cannot be used.
    """
    restored = restore(checkpoint)
    files = find_images(inputs)
    keep_freed_memory()
    return len(files), predict_files(restored, files, sex, out, batch_size=batch_size, workers=workers, progress=progress)


def predict_files(
    restored: Restored, files: Sequence[Path], sex: Sex, out: Path, *, batch_size: int, workers: int, progress: bool
) -> int:
    """`predict` with a checkpoint that has been read, on a list of files; how many of them could not be read."""
    settings = ["trainer.devices=1", "trainer.num_nodes=1", "trainer.strategy=auto", f"trainer.progress={progress}"]
    config = load(None, settings, base=restored.settings)
    crop = None
    if restored.locator is not None:
        crop = RegionCropper(restored.locator, **crop_arguments(config)).requires_grad_(False)
    data = FileDataModule(files, sex, px=config.data.source_px, crop=crop, batch_size=batch_size, workers=workers)
    writer = PredictionWriter(out / "predictions.csv", files)
    trainer = build_trainer(config, logger=None, callbacks=[writer])
    trainer.predict(restored.module, data, return_predictions=False)
    return writer.unread


class PredictionWriter(BasePredictionWriter):
    """Rows as they come, into a file that gets its name when it is whole; memory does not grow with the files.

    Args:
        file: the CSV.
        files: what `FileSample.place` counts in.
    """

    def __init__(self, file: Path, files: Sequence[Path]) -> None:
        super().__init__("batch")
        self.file = file
        self.files = files
        self.unread = 0
        self.growing = file.with_name(f".{file.name}.new")
        self.handle: IO[str] | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.handle = self.growing.open("w", newline="")
        csv.DictWriter(self.handle, COLUMNS).writeheader()

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
        assert self.handle is not None
        whole, sample = batch
        rows = [self._row(i, prediction, whole, sample) for i in range(len(prediction))]
        csv.DictWriter(self.handle, COLUMNS).writerows(rows)
        self.unread += sum(bool(row.get("error")) for row in rows)

    def _row(self, i: int, months: Tensor, batch: Batch, sample: FileSample) -> dict[str, Any]:
        row: dict[str, Any] = {"file": self.files[int(sample.place[i])], "sex": Sex(int(sample.sex[i])).name.lower()}
        if sample.error[i]:
            return row | {"error": sample.error[i]}
        warnings = ["bright background, turned dark"] if sample.inverted[i] else []
        row["bone_age_months"] = f"{float(months[i]):.1f}"
        if batch.regions is not None and batch.regions.fallback is not None:
            left, top, side = padding(*map(int, sample.size[i]))
            pixels = (batch.regions.boxes[i].cpu() - torch.tensor([left, top, left, top])) * side
            row |= {name: f"{x:.1f}" for name, x in zip(BOX_COLUMNS, pixels.flatten().tolist(), strict=True)}
            lost = zip(REGIONS, batch.regions.fallback[i].tolist(), strict=True)
            warnings += [f"no {region} region seen, a typical box stands in" for region, fallback in lost if fallback]
        return row | {"warnings": "; ".join(warnings)}

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()
        self.growing.replace(self.file)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._close()
        self.growing.unlink(missing_ok=True)

    def _close(self) -> None:
        if self.handle is not None:
            self.handle.close()
