"""Batches: uint8 from the cache, augmented and cut into crops on the device."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.profiler import record_function
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from baa.data.balance import BalancedSampler
from baa.data.cache import Radiographs
from baa.data.radiograph import padding
from baa.nets.film import Film
from baa.nets.regions import RegionCropper, Regions

NO_BOX = (float("nan"),) * 4

PHASE = "baa: "
"""What a step's phases are called in a trace."""


class Sample(NamedTuple):
    """A case on its way to the device; batched, each field gets a leading B.

    image [1, S, S] uint8; months (NaN if unknown); sex; case: its place in its split; truth [2, 4]: the true carpal and
    hand boxes as shares of the square, NaN where unknown; capitate [2] likewise; remembered [2, 4]: the boxes that a locator
    found in the radiograph as it is, NaN if it was not asked.
    """

    image: Tensor
    months: Tensor
    sex: Tensor
    case: Tensor
    truth: Tensor
    capitate: Tensor
    remembered: Tensor


class Batch(NamedTuple):
    """What the nets are trained on: `Sample`'s fields batched, the image on a film, and the regions once cut."""

    film: Film
    months: Tensor
    sex: Tensor
    case: Tensor
    truth: Tensor
    capitate: Tensor
    remembered: Tensor
    regions: Regions | None = None

    @classmethod
    def of_noise(cls, count: int, source_px: int, crops_px: Sequence[int]) -> "Batch":
        """A batch of the shapes that training sees, to measure or to compile a network on."""
        film = Film.plain(torch.rand(count, 1, source_px, source_px))
        carpal, hand = (torch.rand(count, 1, px, px) for px in crops_px)
        boxes = film.source.new_zeros(count, 2, 4)
        months, labels = torch.rand(count) * 200, torch.zeros(count, dtype=torch.long)
        regions = Regions(boxes, None, None, (carpal, hand))
        return cls(film, months, labels, labels, boxes, boxes[:, 0, :2], boxes, regions)


class RadiographDataset(Dataset[Sample]):
    """The cases of one split, straight from the memory map, with remembered boxes [N, 2, 4] if there are any.

    A loader asks for a batch at a time and gets it as one `Sample`: `collate_fn=whole_batch`.
    """

    def __init__(self, radiographs: Radiographs, remembered: Tensor | None = None) -> None:
        self.radiographs = radiographs
        cases = radiographs.cases
        frames = torch.tensor([_frame(*size) for size in radiographs.sizes()]).view(len(cases), 4)
        share, margin = frames[:, :2], frames[:, 2:]
        boxes = torch.tensor([tuple(box or NO_BOX) for case in cases for box in (case.carpal, case.hand)])
        capitates = torch.tensor([case.capitate or NO_BOX[:2] for case in cases]).view(len(cases), 2)
        self.labels = Sample(
            image=torch.empty(len(cases), 0, dtype=torch.uint8),
            months=torch.tensor([float("nan") if case.months is None else case.months for case in cases]),
            sex=torch.tensor([int(case.sex) for case in cases], dtype=torch.long),
            case=torch.arange(len(cases)),
            truth=boxes.view(len(cases), 2, 4) * share.repeat(1, 2)[:, None] + margin.repeat(1, 2)[:, None],
            capitate=capitates * share + margin,
            remembered=torch.full((len(cases), 2, 4), torch.nan) if remembered is None else remembered,
        )

    def __len__(self) -> int:
        return len(self.radiographs.cases)

    def __getitem__(self, index: int) -> Sample:
        return Sample(*(field[0] for field in self.__getitems__([index])))

    def __getitems__(self, indices: Sequence[int]) -> Sample:
        px = self.radiographs.px
        image = torch.empty(len(indices), 1, px, px, dtype=torch.uint8)
        for place, index in enumerate(indices):
            image.numpy()[place, 0] = self.radiographs.pixels(index)
        chosen = torch.tensor(indices)
        return Sample(*(field[chosen] for field in self.labels))._replace(image=image)


def _frame(width: int, height: int) -> tuple[float, float, float, float]:
    """Of a radiograph in its square: its share of the sides, and its margins."""
    left, top, side = padding(width, height)
    return width / side, height / side, left, top


def whole_batch(batch: Any) -> Any:
    """What `RadiographDataset` gives is collated already: a `Sample`."""
    return batch


class HandDataModule(L.LightningDataModule):
    """Whole radiographs in batches; augmented in training.

    Args:
        radiographs: by split; those that a run does not need may be absent.
        batch_size: of one process.
        workers: loader processes.
        augment: [B, 1, S, S] in [0, 1] -> `Film`, applied in training.
        balance: how much more often rare ages are trained on, see `BalancedSampler`; 0: each case once an epoch.
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
        self.seed = seed

    def train_dataloader(self) -> DataLoader[Sample]:
        # The order depends on (seed, epoch) alone, which makes a resumed run the unbroken one.
        dataset = self.datasets["train"]
        draw: Callable[..., DistributedSampler[Sample]] = DistributedSampler
        if self.balance:
            draw = partial(BalancedSampler, months=dataset.labels.months, balance=self.balance)
        rank, world = self._place()
        sampler = draw(dataset, num_replicas=world, rank=rank, seed=self.seed)
        return self._loader("train", sampler, drop_last=len(sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("val", self._share("val"))

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader(self.judged, self._share(self.judged))

    def _share(self, split: str) -> range:
        """Each case once, on one of the processes: a `DistributedSampler` would repeat some to make all shares even."""
        rank, world = self._place()
        return range(rank, len(self.datasets[split]), world)

    def _place(self) -> tuple[int, int]:
        """Of this process, and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, split: str, sampler: Sampler[Any] | range, *, drop_last: bool = False) -> DataLoader[Sample]:
        return DataLoader(
            self.datasets[split],
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            collate_fn=whole_batch,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def on_before_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Sample:
        # Augmentation and dropout follow (seed, step, process) alone, for the same reason. Lightning's epoch hooks would not
        # do: the first epoch after a resume gets none.
        if self.trainer is not None and self.trainer.training:
            torch.manual_seed((self.seed * 1_000_003 + self.trainer.global_step) * 1009 + self.trainer.global_rank)
        return batch

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Batch:
        source = batch.image.float().div_(255)
        training = self.trainer is not None and self.trainer.training
        film = self.augment(source) if training else Film.plain(source)
        return Batch(film, *batch[1:])


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
        batch_size, workers, augment, balance, seed, judged: as of `HandDataModule`.
    """

    def __init__(
        self,
        radiographs: Mapping[str, Radiographs],
        crop: RegionCropper,
        *,
        recipe: dict[str, Any],
        remembered: Mapping[str, Tensor] | None = None,
        batch_size: int,
        workers: int = 0,
        augment: Callable[[Tensor], Film] = Film.plain,
        balance: float = 0.0,
        seed: int = 0,
        judged: str = "test",
    ) -> None:
        super().__init__(
            radiographs, batch_size=batch_size, workers=workers, augment=augment, balance=balance, seed=seed, judged=judged
        )
        self.remembered = remembered or {}
        for split, boxes in self.remembered.items():
            self.datasets[split] = RadiographDataset(radiographs[split], boxes)
        self.crop = crop.requires_grad_(False)
        self.recipe = recipe

    @torch.no_grad()
    def on_after_batch_transfer(self, batch: Sample, dataloader_idx: int) -> Batch:
        whole = super().on_after_batch_transfer(batch, dataloader_idx)
        crop = self.crop.to(whole.film.source.device)
        recalled = self._split() in self.remembered
        with record_function(f"{PHASE}crops"):
            return whole._replace(regions=crop.recall(whole.film, whole.remembered) if recalled else crop(whole.film))

    def _split(self) -> str:
        if self.trainer is None or self.trainer.testing:
            return self.judged
        return "train" if self.trainer.training else "val"

    def state_dict(self) -> dict[str, Any]:
        return {"recipe": self.recipe, "weights": self.crop.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.crop.load_state_dict(state_dict["weights"])
