"""How faithful a model's heat maps are, on a split."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from baa.data.datamodules import CropDataModule
from baa.metrics.ages import REPORTED_BANDS_MONTHS
from baa.metrics.faithfulness import curves, occlusion, rank_correlation, with_random_weights
from baa.nets.boxes import HEAT_GRID, upsample
from baa.nets.cropper import RegionCropper
from baa.nets.view import View

MOST_CASES = 200
"""Cases that are measured, evenly spaced in the split: each takes about 60 forward passes."""


@torch.no_grad()
def faithfulness(data: CropDataModule, device: torch.device, *, progress: bool = True) -> dict[str, dict[str, float]]:
    """Measure the first heat map of each radiograph: what hiding and showing its cells does to the locator's age.

    Args:
        data: its evaluated split and its cropper are used.
        device: to compute on.
        progress: whether to show a progress bar.

    Returns:
        Means by group (`all`, bands of age).
        What `curves` and `occlusion` return: in months.
        random_head, random_weights: rank correlation with the map of a locator with such weights.
        heat_in_REGION, area_of_REGION: share of the heat in an annotated box, and the box's share of the image.
    """
    dataset, cropper = data.datasets[data.eval_split], data.crop.to(device)

    def age(image: Tensor) -> Tensor:
        return cropper.locator(image).months

    chosen = sorted({round(i) for i in torch.linspace(0, len(dataset) - 1, min(MOST_CASES, len(dataset))).tolist()})
    generator = torch.Generator().manual_seed(0)
    randomized = {
        name: RegionCropper(with_random_weights(cropper.locator, part), cropper.regions, attribution=cropper.attribution)
        for name, part in (("random_head", "head"), ("random_weights", "all"))
    }
    columns: dict[str, list[Tensor]] = {}
    for start in tqdm(range(0, len(chosen), data.batch_size), desc="faithfulness", disable=not progress):
        sample = dataset.__getitems__(chosen[start : start + data.batch_size])
        image = View.of(sample.image.to(device).float().div_(255)).render(cropper.locator.px)
        heat = cropper.heat_map(image).nan_to_num()
        found = curves(age, image, heat, generator) | occlusion(age, image, heat, generator)
        found |= {name: rank_correlation(heat, other.heat_map(image).nan_to_num()) for name, other in randomized.items()}
        for i, region in enumerate(cropper.regions):
            found |= _heat_in_box(heat, sample.gt_boxes[:, i].to(device), region)
        for name, values in {"months": sample.months, **found}.items():
            columns.setdefault(name, []).append(values.cpu())
    table = {name: torch.cat(parts) for name, parts in columns.items()}
    months = table.pop("months")
    return {group: _means(table, rows) for group, rows in _groups(months) if rows.any()}


def _heat_in_box(heat: Tensor, boxes: Tensor, region: str) -> dict[str, Tensor]:
    grid = upsample(heat, HEAT_GRID)
    place = (torch.arange(HEAT_GRID, device=heat.device) + 0.5) / HEAT_GRID
    x0, y0, x1, y1 = boxes[:, :, None].unbind(dim=1)
    inside = (((place >= y0) & (place < y1))[:, :, None] & ((place >= x0) & (place < x1))[:, None]).float()
    unknown = ~boxes.isfinite().all(dim=1)
    share = (grid * inside).sum(dim=(1, 2)) / grid.sum(dim=(1, 2)).clamp(min=1e-9)
    area = inside.mean(dim=(1, 2))
    return {
        f"heat_in_{region}": share.masked_fill(unknown, torch.nan),
        f"area_of_{region}": area.masked_fill(unknown, torch.nan),
    }


def _groups(months: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "all", torch.ones(len(months), dtype=torch.bool)
    for low, high in itertools.pairwise(REPORTED_BANDS_MONTHS):
        yield f"{low} to {high - 1} months", (months >= low) & (months < high)


def _means(table: dict[str, Tensor], rows: Tensor) -> dict[str, float]:
    means = {name: float(values[rows].nanmean()) for name, values in table.items()}
    return {"cases": int(rows.sum()), **{name: value for name, value in means.items() if value == value}}
