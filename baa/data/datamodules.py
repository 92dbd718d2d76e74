"""Batches: uint8 from the cache, augmented and cut into crops on the device."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils.data import DataLoader, DistributedSampler

from baa.data.balance import BalancedSampler
from baa.data.batch import Batch, RadiographDataset, Sample, whole_batch
from baa.data.cache import Radiographs
from baa.data.sampling import LateLoader, RestOfEpoch, ignore_signals
from baa.nets.backbone import GreyImage
from baa.nets.cropper import RegionCropper, Regions
from baa.nets.input_check import Recogniser, recognise
from baa.nets.view import Film
from baa.patient import Sex

PHASE = "baa: "
"""What a step's phases are called in a trace."""


class HandDataModule(L.LightningDataModule):
    """Whole radiographs in batches; augmented in training.

    Args:
        radiographs: by split; those that a run does not need may be absent.
        batch_size: of one process.
        workers: loader processes.
        augment: [B, 1, S, S] in [0, 1] -> `Film`, applied in training.
        balance: how much more often rare ages are trained on, see `BalancedSampler`; 0: each case once an epoch.
        hide_sex: probability that training does not tell the sex of a case.
        seed: of the order and the augmentation of the training cases.
        judged: the split that `test` reads.
    """

    def __init__(
        self,
        radiographs: Mapping[str, Radiographs],
        *,
        batch_size: int,
        workers: int = 0,
        augment: Callable[[Tensor], Film] = Film.plain,
        balance: float = 0.0,
        hide_sex: float = 0.0,
        seed: int = 0,
        judged: str = "test",
    ) -> None:
        super().__init__()
        self.judged = judged
        self.datasets = {split: RadiographDataset(cases) for split, cases in radiographs.items()}
        self.batch_size = batch_size
        self.workers = workers
        self.augment = augment
        self.balance = balance
        self.hide_sex = hide_sex
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Sample]:
        # The order depends on (seed, epoch) alone, which makes a resumed run the unbroken one.
        dataset = self.datasets["train"]
        draw: Callable[..., DistributedSampler[Any]] = DistributedSampler
        if self.balance:
            draw = partial(BalancedSampler, months=dataset.labels.months, balance=self.balance)
        rank, world = self._rank_and_world()
        order = RestOfEpoch(draw(dataset, num_replicas=world, rank=rank, seed=self.seed), self._done)
        return LateLoader(dataset, sampler=order, drop_last=len(order) > self.batch_size, **self._loading())

    def _done(self) -> int:
        """How many cases of this epoch a resumed run has trained on, in this process."""
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready * self.batch_size if self.trainer else 0

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._each_once("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._each_once(self.judged)

    def _each_once(self, split: str) -> DataLoader[Sample]:
        """Each case once, on one of the processes: a `DistributedSampler` would repeat some to make all shares even."""
        rank, world = self._rank_and_world()
        share = range(rank, len(self.datasets[split]), world)
        return DataLoader(self.datasets[split], sampler=share, collate_fn=whole_batch, **self._loading())

    def _rank_and_world(self) -> tuple[int, int]:
        """Of this process, and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loading(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "worker_init_fn": ignore_signals,
            "pin_memory": torch.cuda.is_available(),
        }

    def on_before_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        # Augmentation and dropout follow (seed, batch, process) alone, for the same reason. Lightning's epoch hooks would not
        # do: the first epoch after a resume gets none.
        if self.trainer is not None and self.trainer.training:
            number = self.trainer.fit_loop.total_batch_idx + 1
            torch.manual_seed((self.seed * 1_000_003 + number) * 1009 + self.trainer.global_rank)
        return batch

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Batch:
        source = batch.image.float().div_(255)
        training = self.trainer is not None and self.trainer.training
        film = self.augment(source) if training else Film.plain(source)
        whole = Batch(film, *batch[1:])
        if not (training and self.hide_sex):
            return whole
        hidden = torch.rand(len(source), device=source.device) < self.hide_sex
        return whole._replace(sex=whole.sex.masked_fill(hidden, Sex.UNKNOWN))


class CropDataModule(HandDataModule):
    """Radiographs, and the crops that a frozen locator cuts from them, after the augmentation and on the device.

    Or from boxes that it found before, carried along with the augmentation: two looks at a case then serve a whole training.
    The locator is no submodule of what is trained, so nobody else would save it: this module's state is the locator's,
    and goes into the checkpoint of whatever is trained on its crops.

    Args:
        radiographs: by split.
        crop: its `state_dict` is kept.
        recipe: plain data from which `crop` can be built again, kept beside its state.
        remembered: boxes [N, 2, 4] by split; a split without is looked at live.
        recogniser: of what the locator of `crop` makes of a hand; a test then looks live, and reads each hand in the pose that
            `recognise` gives it. None reads radiographs as they are.
        batch_size, workers, augment, balance, hide_sex, seed, judged: as of `HandDataModule`.
    """

    def __init__(
        self,
        radiographs: Mapping[str, Radiographs],
        crop: RegionCropper,
        *,
        recipe: dict[str, Any],
        remembered: Mapping[str, Tensor] | None = None,
        recogniser: Recogniser | None = None,
        batch_size: int,
        workers: int = 0,
        augment: Callable[[Tensor], Film] = Film.plain,
        balance: float = 0.0,
        hide_sex: float = 0.0,
        seed: int = 0,
        judged: str = "test",
    ) -> None:
        super().__init__(
            radiographs,
            batch_size=batch_size,
            workers=workers,
            augment=augment,
            balance=balance,
            hide_sex=hide_sex,
            seed=seed,
            judged=judged,
        )
        self.remembered = remembered or {}
        for split, boxes in self.remembered.items():
            self.datasets[split] = RadiographDataset(radiographs[split], boxes)
        self.crop = crop.requires_grad_(False)
        self.recipe = recipe
        self.recogniser = recogniser

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Batch:
        whole = super().on_after_batch_transfer(batch, dataloader_idx)
        crop = self.crop.to(whole.film.source.device)
        recalled = self._split() in self.remembered
        if self.recogniser is not None and self.trainer is not None and self.trainer.testing:
            film, regions = self.look(whole.film.source)
            return whole._replace(film=film, regions=regions)
        with record_function(f"{PHASE}crops"):
            return whole._replace(regions=crop.recall(whole.film, whole.remembered) if recalled else crop(whole.film))

    @torch.no_grad()
    def look(self, source: GreyImage) -> tuple[Film, Regions]:
        """Radiographs [B, 1, S, S] in [0, 1] as a test reads them, and their regions where they are in what was given."""
        crop = self.crop.to(source.device)
        if self.recogniser is None:
            return (film := Film.plain(source)), crop(film)
        found = recognise(crop, self.recogniser.to(source.device), source)
        return found.film, found.regions_as_given()

    def _split(self) -> str:
        if self.trainer is None or self.trainer.testing:
            return self.judged
        return "train" if self.trainer.training else "val"

    def state_dict(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "weights": self.crop.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.crop.load_state_dict(state_dict["weights"])
