"""Cached boxes: a frozen locator finds the regions of each radiograph once, not in every epoch."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from baa.assembly.trainer import compute_device
from baa.atomic_io import write_atomic
from baa.config.load import to_plain
from baa.config.schema import Config
from baa.data.batch import RadiographDataset, whole_batch
from baa.data.cache import Radiographs
from baa.data.workers import loading
from baa.nets.cropper import RegionCropper
from baa.nets.view import View

CACHED_SPLITS = ("train", "val")

FORMAT = 2
"""Of the file. A change of code that gives other boxes by the same settings raises it, so that kept ones are not used."""


def cache_boxes(
    cropper: RegionCropper, locator_source: dict[str, Any], splits: dict[str, Radiographs], config: Config
) -> dict[str, Tensor]:
    """Find the boxes of all training and validation cases in the radiograph as it is, or read those that were kept.

    They lie in `data.cache`, under a hash of the locator, the crop settings and the cases; one of many processes computes
    them. A damaged file is computed again. The test split is not cached: its heat maps are part of the result.

    Args:
        cropper: finds the boxes.
        locator_source: file and digest of its locator.
        splits: radiographs by split.
        config: cache folder, crop settings, loading.

    Returns:
        Boxes [N, R, 4] by split, as shares of the source.
    """
    file = Path(config.data.cache) / f"boxes-{_key(locator_source, splits, config)}.safetensors"
    with FileLock(file.with_suffix(".lock")):
        boxes = _kept_boxes(file, splits, len(cropper.regions))
        if boxes is None:
            boxes = {split: _find_boxes(cropper, splits[split], split, config) for split in CACHED_SPLITS}
            write_atomic(file, save(boxes))
    rank_zero_info(f"boxes: cached in {file}")
    return boxes


def _kept_boxes(file: Path, splits: dict[str, Radiographs], regions: int) -> dict[str, Tensor] | None:
    """Read the file; None if there is none, or none that is whole."""
    if not file.exists():
        return None
    try:
        boxes = load_file(file)
        if all(boxes[split].shape == (len(splits[split].cases), regions, 4) for split in CACHED_SPLITS):
            return boxes
    except (SafetensorError, KeyError, ValueError):
        pass
    rank_zero_info(f"boxes: {file} is damaged; they are found again")
    return None


def _key(locator_source: dict[str, Any], splits: dict[str, Radiographs], config: Config) -> str:
    parts = [
        FORMAT,
        locator_source["sha256"],
        to_plain(config)["crops"],
        splits["train"].key,
        *([case.id for case in splits[split].cases] for split in CACHED_SPLITS),
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


@torch.no_grad()
def _find_boxes(cropper: RegionCropper, radiographs: Radiographs, split: str, config: Config) -> Tensor:
    device = compute_device(config)
    loader = DataLoader(
        RadiographDataset(radiographs),
        batch_size=config.estimator.fit.batch_size,
        collate_fn=whole_batch,
        **loading(config.data.workers),
    )
    cropper = cropper.to(device)
    boxes = []
    for batch in tqdm(loader, desc=f"boxes of {split}", disable=not config.trainer.progress):
        view = View.of(batch.image.to(device).float().div_(255))
        boxes.append(cropper.localize(view.render(cropper.locator.px)).boxes.cpu())
    return torch.cat(boxes)
