"""A batch of radiographs read by a trained model, and the prediction of each."""

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from baa.assembly.trainer import FULL, HALF, resolve_precision
from baa.checkpoints.trained_model import TrainedModel
from baa.data.read.radiograph import Frame
from baa.inference.files import FileSample
from baa.inference.prediction import Prediction
from baa.inference.tta import disagreement
from baa.metrics.conformal import interval_of
from baa.nets.backbone import GrayImage
from baa.nets.input_check import Oriented
from baa.nets.laterality import SURE
from baa.nets.regions import PRIOR, Regions
from baa.nets.view import View
from baa.patient import Sex

ADULT_MONTHS = 240
GROWN_MONTHS = {Sex.MALE: 222, Sex.FEMALE: 210, Sex.UNKNOWN: 210}
"""Little is left to change from here on: half a year below the last standards of Greulich and Pyle, 19 and 18 years."""

ROTATED = {1: "rotated by 90 degrees counterclockwise", 2: "rotated by 180 degrees", 3: "rotated by 90 degrees clockwise"}


class Reading(NamedTuple):
    """A batch as it was read, on the CPU.

    months [B]; oriented: how each radiograph was rotated and mirrored; film [B, S, S] uint8: as the networks received it;
    regions: in the frame of `film`; boxes [B, R, 4]: as shares of the given squares; disagreement [B], if asked for.
    """

    months: Tensor
    oriented: Oriented
    film: Tensor
    regions: Regions | None
    boxes: Tensor | None
    disagreement: Tensor | None


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
        months = model(oriented.view, sex, regions).months.float()
        apart = disagreement(model, oriented.view, regions, sex) if disagree else None
    boxes = None if regions is None else oriented.view.boxes_in_source(regions.boxes)
    film = _film(source, oriented)
    oriented = oriented._replace(locator_view=None, features=None)  # large, and not needed any more
    return move_data_to_device(Reading(months, oriented, film, regions, boxes, apart), "cpu")


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
    basis: dict[str, Any] = {"file": file, "coverage": coverage, "regions": names}
    basis |= {"sex": sex, "sex_source": sample.sex_source[i]}
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
    notes = [sample.notes[i], ROTATED.get(int(oriented.quarters[i])), _end_of_growth(months, chronological, sex)]
    basis |= {"film": reading.film[i].numpy()}
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
        interval=None if unrecognized else interval_of(trained.calibration, sex, months, coverage),
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


def _end_of_growth(months: float, chronological: float | None, sex: Sex) -> str | None:
    if chronological is not None and chronological >= ADULT_MONTHS:
        return "an adult by the chronological age"
    return "at the end of growth: an adult's hand looks the same" if round(months, 1) >= GROWN_MONTHS[sex] else None
