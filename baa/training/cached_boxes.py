"""Remembered boxes: a frozen locator looks at each radiograph once, not once an epoch."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_info
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from baa.assembly.trainer import compute_device
from baa.atomic_io import write_whole
from baa.config.schema import Config
from baa.data.batch import RadiographDataset, whole_batch
from baa.data.cache import Radiographs
from baa.nets.cropper import RegionCropper
from baa.nets.view import Film

REMEMBERED_SPLITS = ("train", "val")


def remember_boxes(
    cropper: RegionCropper, recipe: dict[str, Any], cohort: dict[str, Radiographs], config: Config
) -> dict[str, Tensor]:
    """The boxes of every case to train and choose on, found in the radiograph as it is, or read from where they were kept.

    They lie beside the cache, under the checksum of the locator's checkpoint, the crop settings and the cases; of many
    processes one looks. The test split is always looked at live: its heat maps are part of the result.

    Args:
        cropper: the locator and its box rule.
        recipe: what `crop_recipe` says of them.
        cohort: radiographs by split.
        config: where the cache is, how to load.

    Returns:
        [N, 2, 4] by split, shares of the source.
    """
    folder = Path(config.data.cache)
    file = folder / f"boxes-{_key(recipe, cohort)}.safetensors"
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            boxes = {split: _look(cropper, cohort[split], split, config) for split in REMEMBERED_SPLITS}
            write_whole(file, save(boxes))
    rank_zero_info(f"boxes: remembered in {file}")
    return load_file(file)


def _key(recipe: dict[str, Any], cohort: dict[str, Radiographs]) -> str:
    said = [
        recipe["sha256"],
        recipe["crops"],
        cohort["train"].key,
        *([c.id for c in cohort[split].cases] for split in REMEMBERED_SPLITS),
    ]
    return hashlib.blake2b(json.dumps(said).encode(), digest_size=12).hexdigest()


@torch.no_grad()
def _look(cropper: RegionCropper, radiographs: Radiographs, split: str, config: Config) -> Tensor:
    device = compute_device(config)
    loader = DataLoader(
        RadiographDataset(radiographs),
        batch_size=config.estimator.fit.batch_size,
        num_workers=config.data.workers,
        collate_fn=whole_batch,
    )
    cropper = cropper.to(device)
    batches = tqdm(loader, desc=f"boxes of {split}", disable=not config.trainer.progress)
    return torch.cat([cropper.locate(Film.plain(batch.image.to(device).float().div_(255)))[0].cpu() for batch in batches])
