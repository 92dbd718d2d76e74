"""Inputs of the benchmarks: phantoms as PNG files, and models with random weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from baa.assembly.modules import build_cropper, estimator_arguments, locator_arguments
from baa.checkpoints.provenance import Provenance
from baa.checkpoints.trained_model import TrainedModel
from baa.config.load import load, to_plain
from baa.data.cache import Radiographs, open_cache
from baa.data.cases import Case
from baa.data.read.file import ImageFile
from baa.data.sources.phantom import phantom_cases
from baa.inference.inputs import InputFile
from baa.inference.predict import predict_files
from baa.metrics.coverage import COVERAGE
from baa.nets.cropper import RegionCropper
from baa.nets.estimator import Estimator
from baa.nets.locator import Locator
from baa.nets.two_stage import BoneAgeModel
from baa.patient import Sex

MEAN_MONTHS, STD_MONTHS = 127.0, 41.0


class Untrained(NamedTuple):
    """A two-stage model with random weights, and its two parts."""

    model: TrainedModel
    cropper: RegionCropper
    estimator: Estimator


def untrained(settings: Sequence[str] = ()) -> Untrained:
    """Build the two-stage model of some settings (default: the paper's networks), in eval mode and channels-last layout."""
    torch.manual_seed(0)
    config = load([], settings)
    networks = {
        "locator": locator_arguments(config, MEAN_MONTHS, STD_MONTHS),
        "estimator": estimator_arguments(config, MEAN_MONTHS, STD_MONTHS),
    }
    cropper, estimator = build_cropper(config, Locator(**networks["locator"])), Estimator(**networks["estimator"])
    c = config.estimator
    model = BoneAgeModel(cropper, estimator, whole_px=c.whole_px, flip_average=c.flip_average)
    model.eval().to(memory_format=torch.channels_last)
    trained = TrainedModel("estimator", model, networks, to_plain(config), Provenance(), {})
    return Untrained(trained, cropper, estimator)


def write_films(folder: Path, size: tuple[int, int], count: int = 64) -> list[Path]:
    """Write phantoms as upright PNG files of the given width and height."""
    width, height = size
    margin = (height - width) // 2
    files = []
    for case in phantom_cases(count, seed=0):
        files.append(folder / f"{case.id}.png")
        levels = case.image.load(height).pixels[:, margin : margin + width]
        Image.fromarray(np.ascontiguousarray(levels)).save(files[-1])
    return files


def cache_films(files: Sequence[Path], folder: Path, px: int) -> Radiographs:
    """Read image files into a cache with one worker. A file may occur several times."""
    cases = [Case(id=f"{i} {file.stem}", image=ImageFile(file), months=100.0, sex=Sex.MALE) for i, file in enumerate(files)]
    return open_cache(cases, folder=folder, px=px, workers=1)


def predict(model: TrainedModel, files: Sequence[Path], folder: Path, batch_size: int, *, overlays: bool = False) -> None:
    """Write the prediction table of some files on the CPU, with overlays or without."""
    predict_files(
        model,
        [InputFile(file, Sex.MALE) for file in files],
        folder,
        job="bench",
        device=torch.device("cpu"),
        coverage=COVERAGE,
        overlays=overlays,
        batch_size=batch_size,
        workers=1,
        progress=False,
    )
