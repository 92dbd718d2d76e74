"""Training of the input check, which recognizes one whole upright hand from the locator's features."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from baa.atomic_io import write_atomic
from baa.checkpoints.trained_model import build_input_check
from baa.data.augment import Augmentation
from baa.data.cache import Radiographs
from baa.data.ood import corruptions
from baa.data.sources.phantom import phantom_cases
from baa.nets.input_check import GRID, InputCheck, cells
from baa.nets.locator import Locator
from baa.nets.view import View
from baa.training.laterality import MOST_RADIOGRAPHS, train_laterality

MOST_HANDS, MOST_PHANTOMS, MOST_VALIDATION_HANDS = 500, 200, 600
"""Hands of the training split and phantoms to learn from, hands of the validation split to set the threshold."""

SOME_CORRUPTIONS = 2
"""Corruptions of each hand beside its three rotations. All five detect as much, and take 1.4 times as long."""

FALSE_ALARMS = 0.02
"""Share of the validation hands beyond the threshold."""

COMPONENTS = 32
"""Principal components of a cell's features that are read. There are too few hands to learn from more."""

DECAY = 1e-3
STEPS = 200
BATCH = 32


def shared_input_check(
    locator: Locator, splits: Mapping[str, Radiographs], device: torch.device, file: Path, *, seed: int
) -> InputCheck:
    """Train an input check in one process of the job and share it with the others.

    The others wait for a file: a collective operation would time out. A resumed run finds the file too.

    Args:
        locator: whose features it reads.
        splits: radiographs by split.
        device: to compute on.
        file: through which it is shared.
        seed: of everything that is drawn.
    """
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            check = train_input_check(locator, splits, device, seed)
            write_atomic(file, save({name: tensor.contiguous() for name, tensor in check.state_dict().items()}))
    shared = build_input_check(load_file(file))
    assert shared is not None
    return shared


@torch.no_grad()
def train_input_check(locator: Locator, splits: Mapping[str, Radiographs], device: torch.device, seed: int) -> InputCheck:
    """Train an input check: hands, as they are and slightly moved, against corruptions of hands. Phantoms count as hands.

    Its laterality network is trained on the training split's hands and their mirror images.

    Args:
        locator: whose features it reads; it stays on the device.
        splits: `train` to learn from, `val` to set the threshold.
        device: to compute on.
        seed: of everything that is drawn.

    Returns:
        The input check, on the CPU.
    """
    rng = np.random.default_rng(seed)
    locator = locator.to(device).eval()
    most = {"train": MOST_HANDS, "val": MOST_VALIDATION_HANDS}
    hands, validation = (_some(splits[split], count, rng) for split, count in most.items())
    phantoms = phantom_cases(min(MOST_PHANTOMS, len(hands)), seed=seed + 1)
    groups = [hands, [case.image.load(len(hands[0])).pixels for case in phantoms]]
    move = Augmentation(contrast=0.0, brightness=0.0)
    known = [_features(locator, group, device) for group in groups]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        known += [_features(locator, group, device, move) for group in groups]
    corrupted = [_features(locator, _corruptions(group, rng), device) for group in groups]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        input_check = _linear(torch.cat(known), torch.cat(corrupted))
    limit = max(input_check(group).quantile(1 - FALSE_ALARMS) for group in (_features(locator, validation, device), known[1]))
    input_check.bias -= limit
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        input_check.laterality = train_laterality(_some(splits["train"], MOST_RADIOGRAPHS, rng), device)
    return input_check


def _some(radiographs: Radiographs, most: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [radiographs.pixels(int(i)) for i in rng.permutation(len(radiographs.cases))[:most]]


def _corruptions(hands: list[np.ndarray], rng: np.random.Generator) -> Iterator[np.ndarray]:
    for i, hand in enumerate(hands):
        yield from corruptions(hand, hands[i - 1], rng, SOME_CORRUPTIONS)


def _features(locator: Locator, hands: Iterable[np.ndarray], device: torch.device, move: Augmentation | None = None) -> Tensor:
    """Compute the features [N, C, 3, 3] that an input check reads."""
    computed, left = [], iter(hands)
    while some := list(islice(left, BATCH)):
        source = torch.from_numpy(np.stack(some))[:, None].to(device).float() / 255
        view = move(source) if move else View.of(source)
        computed.append(cells(locator.features(view.render(locator.px))).cpu())
    return torch.cat(computed)


def _linear(known: Tensor, corrupted: Tensor) -> InputCheck:
    """Fit a logistic regression on principal components of known cells; return it as one linear map of the cells."""
    channels = known.shape[1]
    rows = known.permute(0, 2, 3, 1).reshape(-1, channels)
    middle = rows.mean(dim=0)
    _, _, directions = torch.pca_lowrank(rows - middle, q=min(COMPONENTS, *rows.shape), center=False)
    inputs = torch.cat([known, corrupted]) - middle[:, None, None]
    inputs = torch.einsum("nchw,cd->nhwd", inputs, directions).flatten(1)
    labels = torch.cat([torch.zeros(len(known)), torch.ones(len(corrupted))])
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0).clamp(min=1e-3)
    inputs = (inputs - mean) / deviation
    weight, bias = torch.zeros(inputs.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    balance = labels.new_tensor(len(known) / len(corrupted))
    search = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        with torch.enable_grad():
            off = F.binary_cross_entropy_with_logits(inputs @ weight + bias, labels, pos_weight=balance)
            total = off + DECAY * weight.square().sum()
        total.backward()
        return total

    search.step(loss)
    scaled = weight.detach() / deviation
    input_check = InputCheck(channels)
    input_check.weight.copy_(torch.einsum("hwd,cd->chw", scaled.view(GRID, GRID, -1), directions))
    input_check.bias.copy_(bias.detach() - scaled @ mean - (input_check.weight * middle[:, None, None]).sum())
    return input_check
