"""`step-live`, `step-boxes`: an estimator training step that cuts its crops on the fly, against a step on precomputed crops."""

from collections.abc import Callable

import torch
from torch import Tensor

from baa.benchmarks.inputs import untrained
from baa.benchmarks.pairs import Row, alternate, quotient
from baa.data.augment import Augmentation
from baa.nets.view import View
from baa.patient import Sex

BATCH, SOURCE_PX, ROUNDS = 8, 640, 5


def bench() -> list[Row]:
    """Measure the cost of cropping in a step of the paper's networks at 300 px, with live and with cached boxes."""
    _, cropper, estimator = untrained(["crops.box_method=moments"])
    estimator.train()
    optimizer = torch.optim.Adam(estimator.parameters(), 3e-4)
    augment = Augmentation()
    pixels = torch.randint(0, 256, (BATCH, 1, SOURCE_PX, SOURCE_PX), dtype=torch.uint8)
    sex, months = torch.randint(len(Sex), (BATCH,)), torch.rand(BATCH) * 200

    def source() -> Tensor:
        return pixels.float().div_(255)

    def step(cut: Callable[[], dict[str, Tensor]]) -> None:
        with torch.no_grad():
            crops = cut()
        prediction = estimator(crops, sex)
        optimizer.zero_grad()
        estimator.head.loss(prediction, months, "mse").backward()
        optimizer.step()

    @torch.no_grad()
    def forward_passes() -> None:
        for _ in cropper.regions:
            cropper.locator.features(image)

    with torch.no_grad():
        view = View.of(source())
        image = view.render(cropper.locator.px).contiguous(memory_format=torch.channels_last)
        boxes = cropper.localize(image).boxes
        precomputed = cropper.cut(view, boxes)
    seconds = alternate(
        {
            "precomputed": lambda: step(lambda: precomputed),
            "forwards": forward_passes,
            "live": lambda: step(lambda: cropper(augment(source())).crops),
            "cached": lambda: step(lambda: cropper.crop_at(augment(source()), boxes).crops),
        },
        ROUNDS,
    )
    limit = [a + b for a, b in zip(seconds["precomputed"], seconds["forwards"], strict=True)]
    return [
        quotient("step-live", "live crops / (precomputed crops + 2 forward passes)", seconds["live"], limit, 1.05),
        quotient("step-boxes", "cached boxes / precomputed crops", seconds["cached"], seconds["precomputed"], 1.03),
    ]
