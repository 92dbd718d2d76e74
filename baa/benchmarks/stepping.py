"""`step-live`, `step-boxes`: a training step of the estimator with its crops cut on the fly, against one on ready crops."""

from collections.abc import Callable

import torch
from torch import Tensor

from baa.benchmarks.pairs import Row, alternate, quotient
from baa.data.augment import Augmentation
from baa.nets.cropper import REGIONS, RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.locator import Locator
from baa.nets.view import Film
from baa.patient import Sex

BATCH, SOURCE_PX, PX = 8, 640, 300
ROUNDS = 5


def bench() -> list[Row]:
    """The paper's three networks at 300 px: what the crops add to a step, live and from remembered boxes."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, 1, SOURCE_PX, SOURCE_PX), dtype=torch.uint8)
    sex, months = torch.randint(len(Sex), (BATCH,)), torch.rand(BATCH) * 200
    locator = Locator(backbone="inception_v3", px=PX)
    cropper = RegionCropper(locator, px=(PX, PX), rule="moments").to(memory_format=torch.channels_last)
    net = Estimator(backbones={"carpal": "legacy_xception", "hand": "resnet50"}, conv_pool=["carpal"])
    net = net.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-4)
    augment = Augmentation()

    def film() -> Film:
        return augment(pixels.float().div_(255))

    def step(crops: tuple[Tensor, Tensor]) -> None:
        prediction = net(dict(zip(REGIONS, crops, strict=True)), sex)
        optimizer.zero_grad()
        net.head.loss(prediction, months, "mse").backward()
        optimizer.step()

    def two_looks() -> None:
        with torch.no_grad():
            for _ in REGIONS:
                locator.features(view)

    def live() -> None:
        with torch.no_grad():
            crops = cropper(film()).crops
        step(crops)

    def remembered() -> None:
        with torch.no_grad():
            crops = cropper.recall(film(), boxes).crops
        step(crops)

    with torch.no_grad():
        boxes = cropper.locate(Film.plain(pixels.float().div_(255)))[0]
        ready = cropper.recall(Film.plain(pixels.float().div_(255)), boxes).crops
        view = Film.plain(pixels.float().div_(255)).view(PX).contiguous(memory_format=torch.channels_last)
    sides: dict[str, Callable[[], object]] = {
        "ready": lambda: step(ready),
        "looks": two_looks,
        "live": live,
        "remembered": remembered,
    }
    seconds = alternate(sides, ROUNDS)
    limit = [a + b for a, b in zip(seconds["ready"], seconds["looks"], strict=True)]
    return [
        quotient("step-live", "live crops / (ready crops + 2 looks)", seconds["live"], limit, 1.05),
        quotient("step-boxes", "remembered boxes / ready crops", seconds["remembered"], seconds["ready"], 1.03),
    ]
