"""Files to predictions: the logic of `python -m baa.predict`."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from baa.atomic_io import make_folder
from baa.checkpoints.trained_model import TrainedModel
from baa.data.cache import FORMAT
from baa.data.workers import loading
from baa.inference.files import FileDataset, FileSample
from baa.inference.inputs import InputFile
from baa.inference.parts import Parts
from baa.inference.prediction import Prediction, columns
from baa.inference.read import make_prediction, read
from baa.machine import keep_freed_memory
from baa.names import file_stem, match_key
from baa.runtime.distributed import rank_and_world_size
from baa.runtime.preemption import stoppable_work

TABLE, PARTS, OVERLAYS, LEFT_OUT = "predictions.csv", "parts", "overlays", "left_out.csv"
NUMBER_BYTES = 12
"""Room for the number and the suffix of an overlay's name."""

READING = 4
"""Increased whenever the same model would answer differently on the same pixels."""


def predict_stream(
    trained: TrainedModel,
    inputs: Sequence[InputFile],
    *,
    device: torch.device,
    coverage: float,
    strict: bool = False,
    disagree: bool = False,
    batch_size: int,
    workers: int = 0,
    progress: bool = False,
    places: Sequence[int] | None = None,
) -> Iterator[Prediction]:
    """Yield the prediction of each radiograph in order. One that cannot be read is a prediction with an error.

    Args:
        trained: the model, on the device.
        inputs: radiographs, and what is known of their patients.
        device: that the networks run on.
        coverage: of the intervals, on data like the validation split.
        strict: whether a radiograph that is not recognized gets an error instead of an age.
        disagree: whether to read slightly moved views too.
        batch_size: radiographs at a time.
        workers: processes that decode; 0 decodes here.
        progress: whether to show a bar.
        places: of the inputs to read; default: all.
    """
    places = range(len(inputs)) if places is None else places
    loader: DataLoader[FileSample] = DataLoader(
        FileDataset(inputs, places, trained.settings["data"]["source_px"]),
        batch_size=batch_size,
        pin_memory=device.type == "cuda",
        **loading(workers),
    )
    with tqdm(total=len(places), desc="radiographs", disable=not progress) as bar:
        for sample in loader:
            source = sample.image.to(device, non_blocking=True).float().div_(255)
            reading = read(trained, source, sample.sex.to(device), disagree=disagree)
            for i, place in enumerate(sample.place.tolist()):
                yield make_prediction(i, reading, sample, inputs[place].name, trained, coverage, strict=strict)
            bar.update(len(source))


def predict_files(
    trained: TrainedModel,
    inputs: Sequence[InputFile],
    out: Path,
    *,
    job: str,
    device: torch.device,
    coverage: float,
    overlays: bool = True,
    strict: bool = False,
    disagree: bool = False,
    batch_size: int,
    workers: int,
    progress: bool = True,
) -> tuple[int, int | None]:
    """Write `out/predictions.csv`, one row per file, in order; and `out/overlays/NAME.png`.

    Under torchrun or srun each process reads its share of the files. Parts of the table lie in `out/parts/`: the same job,
    started again with any number of processes, does only what is missing. A job of one process removes its parts at the
    end. Those of several processes stay, since another process may still look for them.

    Args:
        trained: the model, on the device.
        inputs: files, and what is known of their patients.
        out: a folder, made if need be.
        job: a name that follows from the model, the settings and the files, see `job_name`.
        overlays: whether to draw pictures.
        device, coverage, strict, disagree, batch_size, workers, progress: see `predict_stream`.

    Returns:
        The number of files, and how many could not be read; None while other processes are still at work.

    Raises:
        InputError: the folder cannot be made.
    """
    make_folder(out)
    keep_freed_memory()
    trained.provenance.log_licences()
    regions = () if trained.model.cropper is None else tuple(trained.model.cropper.regions)
    rank, world_size = rank_and_world_size()
    parts = Parts(out / PARTS / job, len(inputs), columns(regions, trained.model.streams_with_ages))
    missing = list(parts.missing(rank, world_size))
    most_bytes = os.pathconf(out, "PC_NAME_MAX") - NUMBER_BYTES
    names = unique_names([file_stem(given.file.stem, most_bytes) for given in inputs])
    if missing:
        stream = predict_stream(
            trained,
            inputs,
            device=device,
            coverage=coverage,
            strict=strict,
            disagree=disagree,
            batch_size=batch_size,
            workers=workers,
            progress=progress and not rank,
            places=list(itertools.chain(*missing)),
        )
        with stoppable_work("run the same command to read the missing files", independent=True):
            for part in missing:
                rows = []
                for place in part:
                    prediction = next(stream)
                    rows.append(prediction.make_row())
                    if overlays and not prediction.error:
                        prediction.plot(out / OVERLAYS / f"{names[place]}.png")
                parts.write(part.start, rows)
    filled = parts.merge(out / TABLE)
    if filled is None:
        return len(inputs), None
    if world_size == 1:
        parts.remove()
    return len(inputs), filled["error"]


def job_name(digest: str, trained: TrainedModel, inputs: Sequence[InputFile], **settings: Any) -> str:
    """Name a job by the model, the settings and the files as they are. Parts of another job answer another question.

    Args:
        digest: of the model's weights.
        trained: the model.
        inputs: files, and what is known of their patients.
        settings: everything else that changes an answer.
    """
    calibration = sorted(trained.calibration.items())
    parts = [digest, trained.settings["crops"], FORMAT, READING, sorted(settings.items()), calibration]
    name = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8)
    for given in inputs:
        name.update(f"{given.sex}:{given.months}:{given.sex_source}:{given.note}:".encode() + os.fsencode(given.file))
        with contextlib.suppress(OSError):  # a missing file will be a row with its reason
            state = given.file.stat()
            name.update(f":{state.st_size}:{state.st_mtime_ns}\n".encode())
    return name.hexdigest()


def unique_names(names: Sequence[str]) -> list[str]:
    """Number names that stand for several files; a file system may not distinguish capitals or Unicode forms."""
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    unique = []
    for name in names:
        free = name
        while match_key(free) in taken:
            numbers[name] = numbers.get(name, 1) + 1
            free = f"{name}_{numbers[name]}"
        taken.add(match_key(free))
        unique.append(free)
    return unique
