"""The end of a stage that has a locator: a recogniser of one whole upright hand, trained on what the locator makes of some."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F

from baa.checkpoints.load import read_checkpoint
from baa.checkpoints.trained_model import Restored, read_recogniser
from baa.data.augment import Augmentation
from baa.data.cache import Radiographs
from baa.data.ood import mishaps
from baa.data.sources.phantom.phantom import phantom_cases
from baa.nets.input_check import GRID, Recogniser, cells
from baa.nets.locator import Locator
from baa.nets.view import Film
from baa.training.laterality import FILMS, train_laterality
from baa.training.resume import amend

HANDS, PHANTOMS, JUDGED = 500, 200, 600
"""Of the training split and synthetic ones to learn from, of the validation split to set the limit by: at most."""

FALSE_ALARMS = 0.02
"""Share of the hands that set the limit which lies beyond it."""

DIRECTIONS = 32
"""In which the features of a cell differ most; others are not read, there are too few hands to learn from."""

DECAY = 1e-3
STEPS = 200
BATCH = 32


def with_recogniser(
    model: Restored, cohort: dict[str, Radiographs], device: torch.device, file: Path, *, seed: int, taken: Recogniser | None
) -> Restored:
    """The model with a recogniser for its locator, which its checkpoint then holds too.

    Of many processes one trains it. (The others wait for a file: a collective would run out of time.)

    Args:
        model: with a locator, as its checkpoint has it.
        cohort: the radiographs of each split.
        device: to look on.
        file: the checkpoint.
        seed: of all that is drawn.
        taken: over from the model that the locator is from, None to train one.
    """
    assert model.locator is not None
    with FileLock(file.with_name(".recogniser.lock")):
        kept = read_checkpoint(file)["baa"].get("recogniser")
        if kept is None:
            kept = (taken or train_recogniser(model.locator, cohort, device, seed)).state_dict()
            amend(file, recogniser=kept)
    return model._replace(recogniser=read_recogniser(kept))


@torch.no_grad()
def train_recogniser(locator: Locator, cohort: dict[str, Radiographs], device: torch.device, seed: int) -> Recogniser:
    """Tell hands, as they are and a little moved, from what mishaps make of them, phantoms count as hands; and those
    of the training split from their mirror images, by a network of its own.

    Args:
        locator: whose features are read; left on the device.
        cohort: `train` to learn from, `val` to set the limit by.
        device: to look on.
        seed: of all that is drawn.

    Returns:
        The recogniser, on the CPU.
    """
    rng = np.random.default_rng(seed)
    locator = locator.to(device).eval()
    hands, judged = (_some(cohort[split], most, rng) for split, most in (("train", HANDS), ("val", JUDGED)))
    phantoms = phantom_cases(min(PHANTOMS, len(hands)), seed=seed + 1)
    groups = [hands, [case.image.load(len(hands[0])).pixels for case in phantoms]]
    moved = Augmentation(contrast=0.0, brightness=0.0)
    known = [_features(locator, group, device) for group in groups]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        known += [_features(locator, group, device, moved) for group in groups]
    strange = [_features(locator, _mishaps(group, rng), device) for group in groups]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recogniser = _linear(torch.cat(known), torch.cat(strange))
    limit = max(recogniser(group).quantile(1 - FALSE_ALARMS) for group in (_features(locator, judged, device), known[1]))
    recogniser.bias -= limit
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recogniser.laterality = train_laterality(_some(cohort["train"], FILMS, rng), device)
    return recogniser


def _some(radiographs: Radiographs, most: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [radiographs.pixels(int(i)) for i in rng.permutation(len(radiographs.cases))[:most]]


def _mishaps(films: list[np.ndarray], rng: np.random.Generator) -> Iterator[np.ndarray]:
    for i, film in enumerate(films):
        yield from mishaps(film, films[i - 1], rng)


def _features(locator: Locator, films: Iterable[np.ndarray], device: torch.device, moved: Augmentation | None = None) -> Tensor:
    """[N, C, 3, 3]."""
    found, left = [], iter(films)
    while some := list(islice(left, BATCH)):
        source = torch.from_numpy(np.stack(some))[:, None].to(device).float() / 255
        film = moved(source) if moved else Film.plain(source)
        found.append(cells(locator.features(film.view(locator.px))).cpu())
    return torch.cat(found)


def _linear(known: Tensor, strange: Tensor) -> Recogniser:
    """Logistic regression in the directions that known cells differ in, as a single linear map of the cells."""
    channels = known.shape[1]
    rows = known.permute(0, 2, 3, 1).reshape(-1, channels)
    middle = rows.mean(dim=0)
    _, _, directions = torch.pca_lowrank(rows - middle, q=min(DIRECTIONS, *rows.shape), center=False)
    inputs = torch.cat([known, strange]) - middle[:, None, None]
    inputs = torch.einsum("nchw,cd->nhwd", inputs, directions).flatten(1)
    truth = torch.cat([torch.zeros(len(known)), torch.ones(len(strange))])
    mean, deviation = inputs.mean(dim=0), inputs.std(dim=0).clamp(min=1e-3)
    inputs = (inputs - mean) / deviation
    weight, bias = torch.zeros(inputs.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    balance = truth.new_tensor(len(known) / len(strange))
    search = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        with torch.enable_grad():
            off = F.binary_cross_entropy_with_logits(inputs @ weight + bias, truth, pos_weight=balance)
            total = off + DECAY * weight.square().sum()
        total.backward()
        return total

    search.step(loss)
    scaled = weight.detach() / deviation
    recogniser = Recogniser(channels)
    recogniser.weight.copy_(torch.einsum("hwd,cd->chw", scaled.view(GRID, GRID, -1), directions))
    recogniser.bias.copy_(bias.detach() - scaled @ mean - (recogniser.weight * middle[:, None, None]).sum())
    return recogniser
