"""Batches: uint8 from the cache, augmented and cut into crops on the device."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler

from baa.data.batch import Batch, RadiographDataset, Sample, whole_batch
from baa.data.cache import Radiographs
from baa.data.sampling import BalancedSampler, LateLoader, RestOfEpoch
from baa.data.workers import STALL_SECONDS, loading
from baa.nets.backbone import GrayImage
from baa.nets.cropper import RegionCropper
from baa.nets.input_check import InputCheck
from baa.nets.regions import Regions
from baa.nets.two_stage import upright_regions
from baa.nets.view import View
from baa.patient import Sex


class HandDataModule(L.LightningDataModule):
    """Whole radiographs in batches; augmented in training.

    Args:
        radiographs: by split; splits that a run does not need may be absent.
        regions: names of the regions whose annotated boxes a batch carries.
        cached_boxes: boxes [N, R, 4] by split, found in the source.
        batch_size: of one process.
        workers: loader processes.
        timeout: seconds that it waits for a batch of theirs.
        augment: [B, 1, S, S] in [0, 1] -> `View`, applied in training.
        balance: how much more often rare ages are drawn, see `BalancedSampler`; 0: each case once an epoch.
        sex_dropout: probability that training hides the sex of a case.
        seed: of the order and the augmentation of training cases.
        eval_split: the split that `test` reads.
    """

    def __init__(
        self,
        radiographs: Mapping[str, Radiographs],
        *,
        regions: tuple[str, ...] = (),
        cached_boxes: Mapping[str, Tensor] | None = None,
        batch_size: int,
        workers: int = 0,
        timeout: float = STALL_SECONDS,
        augment: Callable[[Tensor], View] = View.of,
        balance: float = 0.0,
        sex_dropout: float = 0.0,
        seed: int = 0,
        eval_split: str = "test",
    ) -> None:
        super().__init__()
        self.cached_boxes = cached_boxes or {}
        self.datasets = {
            split: RadiographDataset(cases, regions, self.cached_boxes.get(split)) for split, cases in radiographs.items()
        }
        self.batch_size = batch_size
        self.workers = workers
        self.timeout = timeout
        self.augment = augment
        self.balance = balance
        self.sex_dropout = sex_dropout
        self.seed = seed
        self.eval_split = eval_split

    def train_dataloader(self) -> DataLoader[Sample]:
        # The order depends on (seed, epoch) alone, so that a resumed run equals the unbroken one.
        dataset = self.datasets["train"]
        if self._overfits():
            return self._in_order("train")
        sampler: Callable[..., DistributedSampler[Any]] = DistributedSampler
        if self.balance:
            sampler = partial(BalancedSampler, months=dataset.labels.months, balance=self.balance)
        rank, world_size = self._rank_and_world_size()
        order = RestOfEpoch(sampler(dataset, num_replicas=world_size, rank=rank, seed=self.seed), self._done)
        return LateLoader(dataset, sampler=order, drop_last=len(order) > self.batch_size, **self._loading())

    def _done(self) -> int:
        """Count the cases of this epoch that a resumed run has already trained on, in this process."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready * self.batch_size if self.trainer else 0

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._in_order("val") if self._overfits() else self._each_once("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._each_once(self.eval_split)

    def _overfits(self) -> bool:
        return self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]

    def _in_order(self, split: str) -> DataLoader[Sample]:
        """Load the cases in their order: Lightning's `overfit_batches` takes the first batches of each epoch."""
        dataset = self.datasets[split]
        return DataLoader(dataset, sampler=SequentialSampler(dataset), collate_fn=whole_batch, **self._loading())

    def _each_once(self, split: str) -> DataLoader[Sample]:
        """Load each case once, in one of the processes. A `DistributedSampler` would repeat some to make shares even."""
        rank, world_size = self._rank_and_world_size()
        share = range(rank, len(self.datasets[split]), world_size)
        return DataLoader(self.datasets[split], sampler=share, collate_fn=whole_batch, **self._loading())

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loading(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
            **loading(self.workers, self.timeout),
        }

    def on_before_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        # Augmentation and dropout depend on (seed, batch, process) alone, for the same reason. Lightning's epoch hooks do not
        # serve: the first epoch after a resume has none.
        if self.trainer is not None and self.trainer.training:
            number = self.trainer.fit_loop.total_batch_idx + 1
            torch.manual_seed((self.seed * 1_000_003 + number) * 1009 + self.trainer.global_rank)
        return batch

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Batch:
        source = batch.image / 255
        training = self.trainer is not None and self.trainer.training
        whole = Batch.of(batch, self.augment(source) if training else View.of(source))
        if not (training and self.sex_dropout):
            return whole
        hidden = torch.rand(len(source), device=source.device) < self.sex_dropout
        return whole._replace(sex=whole.sex.masked_fill(hidden, Sex.UNKNOWN))


class CropDataModule(HandDataModule):
    """Radiographs and their crops, cut after augmentation and on the device.

    A frozen locator finds the regions in each batch (batched Grad-CAM), or cached boxes are moved with the augmentation. The
    locator is no submodule of what is trained, so this module's state carries its weights into the checkpoint.

    Args:
        radiographs: by split.
        crop: finds and cuts the regions.
        locator_source: where the locator comes from (file and digest), kept in the checkpoint.
        input_check: rotates and mirrors radiographs in tests, where regions are then found in every batch. None reads them
            as they are.
        cached_boxes: boxes [N, R, 4] by split; for other splits the locator runs.
        settings: of `HandDataModule`.
    """

    def __init__(
        self,
        radiographs: Mapping[str, Radiographs],
        crop: RegionCropper,
        *,
        locator_source: dict[str, Any] | None = None,
        input_check: InputCheck | None = None,
        cached_boxes: Mapping[str, Tensor] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(radiographs, regions=tuple(crop.regions), cached_boxes=cached_boxes, **settings)
        self.crop = crop.requires_grad_(False)
        self.locator_source = locator_source or {}
        self.input_check = input_check

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Batch:
        whole = super().on_after_batch_transfer(batch, dataloader_idx)
        crop = self.crop.to(whole.view.source.device)
        if self.input_check is not None and self.trainer is not None and self.trainer.testing:
            view, regions = self.localize(whole.view.source)
            return whole._replace(view=view, regions=regions)
        cached = self._split() in self.cached_boxes
        return whole._replace(regions=crop.crop_at(whole.view, whole.cached_boxes) if cached else crop(whole.view))

    @torch.no_grad()
    def localize(self, source: GrayImage) -> tuple[View, Regions]:
        """Return radiographs [B, 1, S, S] as a test reads them, and their regions with boxes and heat maps in the source."""
        crop = self.crop.to(source.device)
        check = None if self.input_check is None else self.input_check.to(source.device)
        oriented, regions = upright_regions(crop, check, source)
        assert regions is not None
        assert regions.heat is not None
        view = oriented.view
        if check is not None:
            regions = regions.in_source(view)
        return view, regions

    def _split(self) -> str:
        if self.trainer is None or self.trainer.testing:
            return self.eval_split
        return "train" if self.trainer.training else "val"

    def state_dict(self) -> dict[str, Any]:
        return {"source": self.locator_source, "locator": self.crop.locator.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.crop.locator.load_state_dict(state_dict["locator"])
