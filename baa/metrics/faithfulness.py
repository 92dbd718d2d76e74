"""Whether a heat map shows what a network uses: deletion, insertion, occlusion, randomized weights.

Deletion and insertion: Petsiuk et al., "RISE", BMVC 2018, https://arxiv.org/abs/1806.07421, here for ages. Randomized weights:
Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, https://arxiv.org/abs/1810.03292.
"""

import copy
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from baa.nets.attention import GaussianFilter, HeatMap
from baa.nets.backbone import GrayImage
from baa.nets.boxes import HEAT_GRID, upsample
from baa.nets.locator import Locator
from baa.nets.view import black_out

STEPS = 8
"""Points of a deletion or insertion curve."""

HIDDEN_SIDE = 0.2
"""Side of the square that occlusion hides, as a share of the image: about a carpus."""

RANDOM_SMOOTHING = 0.1
"""Standard deviation, a share of the side, of the filter of a random map. Cells hidden one by one would look like noise, which
moves an age more than any place does."""

Age = Callable[[Tensor], Tensor]
"""Images [B, 1, px, px] to ages in months [B]."""


def curves(age: Age, image: GrayImage, heat: HeatMap, generator: torch.Generator) -> dict[str, Float[Tensor, " batch"]]:
    """Measure how fast an age changes as cells are hidden, and how fast it returns as they are shown.

    Args:
        age: of the network.
        image: [B, 1, px, px].
        heat: [B, h, w], of the images.
        generator: of the random order.

    Returns:
        `deletion_ORDER` and `insertion_ORDER`: the mean distance over the curve from the age of the whole image, in months.
        Orders: `hottest` first, `coldest` first, and `random`, the order of a random map with patches as large. In a
        faithful map the hottest cells move the age most when they are hidden, and bring it back first when they are shown.
        Each [B].

    Example:
        >>> def bright_corner(image):
        ...     return 100 * image[:, 0, :24, :24].mean(dim=(1, 2))
        >>> heat = torch.zeros(1, 4, 4)
        >>> heat[:, :2, :2] = 1.0
        >>> found = curves(bright_corner, torch.ones(1, 1, 48, 48), heat, torch.Generator().manual_seed(0))
        >>> bool(found["deletion_hottest"] > found["deletion_random"] > found["deletion_coldest"])
        True
    """
    whole = age(image)
    warm = upsample(heat, HEAT_GRID)
    random = GaussianFilter(RANDOM_SMOOTHING, HEAT_GRID)(torch.rand(warm.shape, generator=generator)).to(warm)
    orders = {"hottest": warm, "random": random, "coldest": -warm}
    result = {}
    for name, order in orders.items():
        rank = order.flatten(1).argsort(dim=1).argsort(dim=1).view_as(order)  # 0 is the last
        for kind in ("deletion", "insertion"):
            distances = []
            for step in range(1, STEPS):
                first = rank >= rank[0].numel() * (1 - step / STEPS)
                hidden = first if kind == "deletion" else ~first
                cover = F.interpolate(hidden[:, None].float(), size=image.shape[-2:], mode="nearest") > 0
                distances.append((age(image.masked_fill(cover, 0.0)) - whole).abs())
            result[f"{kind}_{name}"] = torch.stack(distances).mean(dim=0)
    return result


def occlusion(age: Age, image: GrayImage, heat: HeatMap, generator: torch.Generator) -> dict[str, Float[Tensor, " batch"]]:
    """Measure by how many months an age moves when one square is hidden: the hottest, a random one, the coldest.

    The random and the coldest square lie where the image is not black.

    Args:
        age: of the network.
        image: [B, 1, px, px].
        heat: [B, h, w], of the images.
        generator: of the random place.

    Returns:
        `occlusion_hottest`, `occlusion_random`, `occlusion_coldest`: each [B], in months.
    """
    cells = round(HIDDEN_SIDE * HEAT_GRID) // 2 * 2 + 1

    def mean_of_square(grid: Tensor) -> Tensor:
        return F.avg_pool2d(grid[:, None], cells, stride=1, padding=cells // 2)[:, 0]

    warm = mean_of_square(upsample(heat, HEAT_GRID))
    seen = mean_of_square(F.adaptive_avg_pool2d(image, HEAT_GRID)[:, 0])
    seen = seen > 0.5 * seen.amax(dim=(1, 2), keepdim=True)
    anywhere = torch.rand(warm.shape, generator=generator).to(warm)
    whole, result = age(image), {}
    for name, order in (("hottest", warm), ("random", anywhere.where(seen, -1)), ("coldest", (-warm).where(seen, -torch.inf))):
        y, x = torch.unravel_index(order.flatten(1).argmax(dim=1), order.shape[1:])
        center = (torch.stack([x, y], dim=1) + 0.5) / HEAT_GRID
        box = torch.cat([center - HIDDEN_SIDE / 2, center + HIDDEN_SIDE / 2], dim=1)
        result[f"occlusion_{name}"] = (age(black_out(image, box)) - whole).abs()
    return result


def rank_correlation(a: HeatMap, b: HeatMap) -> Float[Tensor, " batch"]:
    """Compute Spearman's correlation [B] of the cells of maps [B, h, w] of the same shape.

    Example:
        >>> heat = torch.arange(12.0).view(1, 3, 4)
        >>> torch.cat([rank_correlation(heat, heat.square()), rank_correlation(heat, -heat)]).round()
        tensor([ 1., -1.])
    """
    ranks = [heat.flatten(1).argsort(dim=1).argsort(dim=1).float() for heat in (a, b)]
    first, second = ((rank - rank.mean(dim=1, keepdim=True)) for rank in ranks)
    return (first * second).sum(dim=1) / (first.norm(dim=1) * second.norm(dim=1)).clamp(min=1e-9)


def with_random_weights(locator: Locator, part: str, seed: int = 0) -> Locator:
    """Return a copy of a locator with a part of its weights drawn anew, in eval mode.

    Args:
        locator: the trained one; it stays as it is.
        part: `head`, the layers of the age; or `all`.
        seed: of the weights.
    """
    randomized = copy.deepcopy(locator)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        chosen: nn.Module = {"head": randomized.head, "all": randomized}[part]
        for module in chosen.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.modules.batchnorm._BatchNorm):
                module.reset_parameters()
    return randomized.eval()
