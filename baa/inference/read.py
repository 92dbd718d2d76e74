"""A batch of radiographs read by a trained model, and the prediction of each."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from baa.assembly.trainer import FULL, HALF, resolve_precision
from baa.checkpoints.trained_model import TrainedModel
from baa.data.proportions import proportion_notes
from baa.data.read.radiograph import Frame
from baa.inference.files import FileSample
from baa.inference.prediction import Prediction, StreamAge
from baa.inference.tta import disagreement
from baa.metrics.conformal import Errors, interval_of
from baa.metrics.saturation import OLDEST, end_of, open_end
from baa.metrics.stream_ages import UNUSUAL, stream_interval, unusual_difference
from baa.nets.backbone import GrayImage
from baa.nets.input_check import Oriented
from baa.nets.laterality import SURE
from baa.nets.regions import PRIOR, Regions
from baa.nets.view import View
from baa.patient import Sex

ADULT_MONTHS = 240
GROWN_MONTHS = {Sex.MALE: 222, Sex.FEMALE: 210, Sex.UNKNOWN: 210}
"""For a model whose ends were not measured: half a year below the last standards of Greulich and Pyle, 19 and 18 years."""

ROTATED = {1: "rotated by 90 degrees counterclockwise", 2: "rotated by 180 degrees", 3: "rotated by 90 degrees clockwise"}


class Reading(NamedTuple):
    """A batch as it was read, on the CPU.

    months [B]; oriented: how each radiograph was rotated and mirrored; film [B, S, S] uint8: as the networks received it;
    regions: in the frame of `film`; boxes [B, R, 4]: as shares of the given squares; disagreement [B], if asked for; alone:
    months [B] of each stream that gives an age of its own.
    """

    months: Tensor
    oriented: Oriented
    film: Tensor
    regions: Regions | None
    boxes: Tensor | None
    disagreement: Tensor | None
    alone: Sequence[Tensor] = ()


@torch.no_grad()
def read(trained: TrainedModel, source: GrayImage, sex: Int[Tensor, " batch"], *, disagree: bool = False) -> Reading:
    """Read a batch.

    Args:
        trained: on the device of the batch.
        source: radiographs [B, 1, S, S] in [0, 1].
        sex: of `Sex`.
        disagree: whether to read slightly moved views too.
    """
    model, device = trained.model, source.device
    oriented, regions = model.upright(source)
    precision = resolve_precision(trained.settings["trainer"]["precision"], device)
    half = torch.bfloat16 if precision == HALF else torch.float16
    context = contextlib.nullcontext() if precision == FULL else torch.autocast(device.type, half)
    with context:
        prediction = model(oriented.view, sex, regions)
        apart = disagreement(model, oriented.view, regions, sex) if disagree else None
    months = prediction.months.float()
    alone = [one.months.float() for one in prediction.alone] if model.streams_with_ages else []
    boxes = None if regions is None else oriented.view.boxes_in_source(regions.boxes)
    film = _film(source, oriented)
    oriented = oriented._replace(locator_view=None, features=None)  # large, and not needed any more
    return move_data_to_device(Reading(months, oriented, film, regions, boxes, apart, alone), "cpu")


def _film(source: GrayImage, oriented: Oriented) -> UInt8[Tensor, "batch px px"]:
    film = source.clone()
    moved = ((oriented.quarters != 0) | oriented.mirrored).nonzero()[:, 0]
    if len(moved):
        view = View.of(source[moved]).turned(oriented.quarters[moved], oriented.mirrored[moved])
        film[moved] = view.render(source.shape[-1])
    return (film[:, 0] * 255).round().byte()


def make_prediction(
    i: int, reading: Reading, sample: FileSample, file: str, trained: TrainedModel, coverage: float, *, strict: bool = False
) -> Prediction:
    """Make the prediction of one radiograph of a batch.

    Args:
        i: its place in the batch.
        reading: of the batch.
        sample: what is known of the radiographs, batched.
        file: its path, or empty.
        trained: the model.
        coverage: of the interval.
        strict: whether a radiograph that is not recognized gets an error instead of an age.
    """
    sex, months = Sex(int(sample.sex[i])), float(reading.months[i])
    chronological = float(sample.months[i]) if sample.months[i].isfinite() else None
    names = () if trained.model.cropper is None else tuple(trained.model.cropper.regions)
    basis: dict[str, Any] = {"file": file, "coverage": coverage, "regions": names, "streams": trained.model.streams_with_ages}
    basis |= {"sex": sex, "sex_source": sample.sex_source[i], "model": trained.identity}
    if sample.error[i]:
        return Prediction(**basis, error=sample.error[i])
    if not np.isfinite(months):
        return Prediction(**basis, error="the network returns no finite age for it")
    oriented, regions = reading.oriented, reading.regions
    score, mirrored = float(oriented.ood_score[i]), bool(oriented.mirrored[i])
    unrecognized, checked = score > 0, np.isfinite(score)
    basis |= {"age_months": chronological, "ood_score": score if checked else None}
    if mirrored or (checked and not unrecognized and float(oriented.laterality[i]) < -SURE):
        basis["mirrored"] = mirrored
    doubts = _doubts(i, score, regions, names)
    if doubts and strict:
        return Prediction(**basis, error="refused: " + "; ".join(doubts))
    table, streams = trained.calibration, _stream_ages(i, reading, trained, sex, None if unrecognized else coverage)
    notes = [sample.notes[i], ROTATED.get(int(oriented.quarters[i])), _end_of_growth(table, months, chronological, sex)]
    film = reading.film[i].numpy()
    notes += [_differing(table, streams), *(proportion_notes(film) if checked and not unrecognized else [])]
    basis |= {"film": film}
    if regions is not None and regions.heat is not None and reading.boxes is not None:
        pixels = Frame(*sample.frame[i].tolist()).boxes_in_image(reading.boxes[i].numpy())
        basis |= {
            "boxes": {name: tuple(map(float, box)) for name, box in zip(names, pixels, strict=True)},
            "heat_maps": dict(zip(names, regions.heat[i].numpy(), strict=True)),
            "film_boxes": regions.boxes[i].numpy(),
        }
        if (shares := regions.prior_shares()) is not None:
            basis |= {
                "prior_shares": dict(zip(names, shares[i].tolist(), strict=True)),
                "prior_boxes": regions.instead[PRIOR].boxes[i].numpy(),
            }
    return Prediction(
        **basis,
        months=months,
        open_end=open_end(table, sex, months),
        stream_ages=streams,
        interval=None if unrecognized else interval_of(table, sex, months, coverage),
        disagreement_months=None if reading.disagreement is None else float(reading.disagreement[i]),
        warnings=tuple(filter(None, [*notes, *doubts])),
    )


def _doubts(i: int, score: float, regions: Regions | None, names: Sequence[str]) -> list[str]:
    """List the reasons why the age may be worthless."""
    doubts = []
    if score > 0:
        doubts.append(f"not recognized as one whole upright hand (ood_score {score:.3g}, above 0)")
    if regions is not None and regions.fallback is not None:
        found = zip(names, regions.fallback[i].tolist(), strict=True)
        doubts += [
            f"no {region} region found, a box at the expected place replaces it" for region, fallback in found if fallback
        ]
    return doubts


def _stream_ages(i: int, reading: Reading, trained: TrainedModel, sex: Sex, coverage: float | None) -> dict[str, StreamAge]:
    """Return the ages of the streams alone, with intervals if there is a coverage for them."""
    ages = {name: float(months[i]) for name, months in zip(trained.model.streams_with_ages, reading.alone, strict=True)}
    return {
        name: StreamAge(months, None if coverage is None else stream_interval(trained.calibration, name, sex, months, coverage))
        for name, months in ages.items()
    }


def _differing(table: Errors, ages: Mapping[str, StreamAge]) -> str | None:
    """Warn of streams whose ages differ more than they usually do."""
    usual = unusual_difference(table)
    if usual is None or len(ages) < 2:
        return None
    (one, first), (other, second), *_ = ages.items()
    apart = first.months - second.months
    if abs(apart) <= usual:
        return None
    return (
        f"{one} and {other} differ: the {one} crop alone is {abs(apart):.0f} months {'older' if apart > 0 else 'younger'} than "
        f"the {other} crop alone; {UNUSUAL:.0%} of hands differ less"
    )


def _end_of_growth(table: Errors, months: float, chronological: float | None, sex: Sex) -> str | None:
    if chronological is not None and chronological >= ADULT_MONTHS:
        return "an adult by the chronological age"
    grown = end_of(table, OLDEST, sex)
    if months < (GROWN_MONTHS[sex] if grown is None else grown):
        return None
    return "at the end of growth: an adult's hand looks the same"
