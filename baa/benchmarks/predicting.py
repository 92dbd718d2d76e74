"""`predict`: files on disk to months, boxes and a table, against the networks alone."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from baa.assembly.modules import optimisation
from baa.benchmarks.loading import FILM_PX, write_films
from baa.benchmarks.pairs import Row, alternate, quotient
from baa.checkpoints.provenance import lineage
from baa.checkpoints.trained_model import Restored
from baa.config.load import load, to_plain
from baa.inference.inputs import Asked
from baa.inference.predict import predict_files
from baa.inference.rows import Answers
from baa.metrics.coverage import COVERAGE
from baa.modules.estimator import EstimatorModule
from baa.modules.locator import LocatorModule
from baa.nets.cropper import REGIONS, RegionCropper
from baa.nets.view import Film
from baa.patient import Sex

BATCH, BATCHES, SOURCE_PX, PX, ROUNDS = 16, 4, 640, 300, 3


def bench() -> list[Row]:
    """The paper's three networks at 300 px on films of the size that RSNA released, PNG, decoded by one process beside them."""
    torch.manual_seed(0)
    restored = paper_networks()
    film = Film.plain(torch.rand(BATCH, 1, SOURCE_PX, SOURCE_PX))
    assert restored.locator is not None
    cropper = RegionCropper(restored.locator, px=(PX, PX))
    module = restored.module.to(memory_format=torch.channels_last)
    assert isinstance(module, EstimatorModule)
    net, locator = module.net, restored.locator.to(memory_format=torch.channels_last)
    view, sex = film.view(PX), torch.zeros(BATCH, dtype=torch.long)
    crops = dict(
        zip(
            REGIONS,
            cropper.cut(film, film.source.new_tensor([[[0.3, 0.5, 0.7, 0.9], [0.2, 0.1, 0.8, 0.7]]] * BATCH)),
            strict=True,
        )
    )

    @torch.no_grad()
    def networks() -> None:
        for _ in range(BATCHES):
            for _ in REGIONS:
                locator.head(locator.features(view))
            for _ in ("upright", "mirrored"):
                net(crops, sex)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = write_films(folder, FILM_PX)
        asked = [Asked(films[i % len(films)], Sex.MALE) for i in range(BATCH * BATCHES)]
        answers = Answers(asked, {}, COVERAGE, draw=None)

        def ours() -> None:
            predict_files(restored, answers, folder / "out", job="bench", batch_size=BATCH, workers=1, progress=False)

        sides: dict[str, Callable[[], object]] = {"networks": networks, "ours": ours}
        seconds = alternate(sides, ROUNDS)
    what = "the networks alone / files to months, boxes, table"
    return [quotient("predict", what, seconds["networks"], seconds["ours"], 0.9, at_least=True)]


def paper_networks() -> Restored:
    """Inception-v3 with CBAM, Xception and ResNet50, random weights, as a checkpoint would bring them back."""
    config = load(None, [f"data.source_px={SOURCE_PX}", f"locator.px={PX}", f"crops.px=[{PX},{PX}]"])
    locator = LocatorModule({"px": PX}, optimisation(config.locator.fit)).eval()
    net = {"backbones": {"carpal": "legacy_xception", "hand": "resnet50"}, "conv_pool": ["carpal"]}
    estimator = EstimatorModule(net, optimisation(config.estimator.fit)).eval()
    return Restored("estimator", estimator, locator.net, {}, to_plain(config), lineage((), "phantom"), {})
