"""`predict`: image files to a table of ages and boxes, against the networks only."""

import tempfile
from pathlib import Path

import torch

from baa.benchmarks.inputs import predict, untrained, write_films
from baa.benchmarks.loading import FILM_PX
from baa.benchmarks.pairs import Row, alternate, quotient
from baa.nets.view import View

BATCH, BATCHES, SOURCE_PX, ROUNDS = 16, 4, 640, 3


def bench() -> list[Row]:
    """Time the paper's networks at 300 px on PNG files of the RSNA image size, decoded by one worker process."""
    model, cropper, estimator = untrained([f"data.source_px={SOURCE_PX}", "trainer.precision=32-true"])
    view, sex = View.of(torch.rand(BATCH, 1, SOURCE_PX, SOURCE_PX)), torch.zeros(BATCH, dtype=torch.long)
    boxes = torch.tensor([[[0.3, 0.5, 0.7, 0.9], [0.2, 0.1, 0.8, 0.7]]] * BATCH)
    image, crops = view.render(cropper.locator.px), cropper.cut(view, boxes)

    @torch.no_grad()
    def networks() -> None:
        for _ in range(BATCHES):
            for _ in cropper.regions:
                cropper.locator(image)
            for _ in ("as given", "flipped"):
                estimator(crops, sex)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_films(folder, FILM_PX, BATCH * BATCHES)
        ours = {"ours": lambda: predict(model, files, folder / "out", BATCH)}
        seconds = alternate({"networks": networks, **ours}, ROUNDS)
    what = "networks only / files to table"
    return [quotient("predict", what, seconds["networks"], seconds["ours"], 0.9, at_least=True)]
