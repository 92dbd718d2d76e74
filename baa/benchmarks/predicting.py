"""`predict`: image files to a table of ages and boxes, against the networks only, and with all that users get."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from baa.benchmarks.inputs import predict, untrained, write_films
from baa.benchmarks.loading import FILM_PX
from baa.benchmarks.pairs import Row, alternate, quotient
from baa.checkpoints.load import load_model
from baa.inference.read import read
from baa.model_card import SHIPPED_IN
from baa.nets.view import View

BATCH, BATCHES, SOURCE_PX, ROUNDS = 16, 4, 640, 3


def bench() -> Iterator[Row]:
    """Time predictions of PNG files of the RSNA image size, decoded by one worker process."""
    yield _papers_networks()
    yield from _packaged_model()


def _papers_networks() -> Row:
    """Compare with the paper's networks alone, at 300 px."""
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
    return quotient("predict", what, seconds["networks"], seconds["ours"], 0.9, at_least=True)


def _packaged_model() -> Iterator[Row]:
    """Compare with the packaged model on pixels in memory, input check included; then with overlays."""
    trained = load_model(SHIPPED_IN)
    source = torch.rand(BATCH, 1, trained.settings["data"]["source_px"], trained.settings["data"]["source_px"])
    sex = torch.zeros(BATCH, dtype=torch.long)

    def in_memory() -> None:
        for _ in range(BATCHES):
            read(trained, source, sex)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_films(folder, FILM_PX, BATCH * BATCHES)
        sides = {
            "in memory": in_memory,
            "table": lambda: predict(trained, files, folder / "out", BATCH),
            "overlays": lambda: predict(trained, files, folder / "out", BATCH, overlays=True),
        }
        seconds = alternate(sides, ROUNDS)
    what = "packaged model with input check, in memory / files to table"
    yield quotient("predict-checked", what, seconds["in memory"], seconds["table"], 0.85, at_least=True)
    what = "files to table / files to table and overlays"
    yield quotient("predict-overlays", what, seconds["table"], seconds["overlays"], 0.8, at_least=True)
