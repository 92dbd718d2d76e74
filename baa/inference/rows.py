"""What is said of one file: a row of the table, and a picture to look at."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from baa.atomic_io import replacing
from baa.data.batch import Batch
from baa.data.radiograph import boxes_in_file
from baa.evaluation.split import CORNERS
from baa.inference.files import FileSample
from baa.inference.inputs import Asked
from baa.metrics.conformal import Errors, interval_of
from baa.metrics.greulich_pyle import standard_deviation
from baa.nets.cropper import REGIONS, Regions
from baa.nets.laterality import SURE
from baa.nets.pose import Pose
from baa.patient import Sex, years_and_months
from baa.plots.overlay import Drawing, overlay

BOX_COLUMNS = tuple(f"{region}_{corner}" for region in REGIONS for corner in CORNERS)
COLUMNS = (
    "file",
    "sex",
    "sex_from",
    "age_months",
    "ahead_months",
    "ahead_deviations",
    "bone_age_months",
    "lower_months",
    "upper_months",
    "bone_age",
    "disagreement_months",
    *BOX_COLUMNS,
    "mirrored",
    "strangeness",
    "warnings",
    "error",
)
ADULT_MONTHS = 240
GROWN_MONTHS = {Sex.MALE: 222, Sex.FEMALE: 210, Sex.UNKNOWN: 210}
"""From here on little is left to change: half a year below the last standards of Greulich and Pyle, 19 and 18 years."""

PNG_LEVEL = 3
"""A third of the time of the default, 2 % more bytes."""

TURNED = {1: "turned by 90 degrees anticlockwise", 2: "turned by 180 degrees", 3: "turned by 90 degrees clockwise"}


Draw = Callable[[int, Drawing], None]


class Overlays:
    """Pictures of answers in a folder, named as their files.

    Args:
        folder: made if need be.
        asked: the files.
    """

    def __init__(self, folder: Path, asked: Sequence[Asked]) -> None:
        self.folder = folder
        self.names = _unlike([one.file.stem for one in asked])

    def __call__(self, place: int, drawing: Drawing) -> None:
        with replacing(self.folder / f"{self.names[place]}.png") as fresh:
            overlay(drawing).save(fresh, compress_level=PNG_LEVEL)


class Answers:
    """The rows of a table of predictions, and their pictures.

    Args:
        asked: what `FileSample.place` counts in.
        calibration: errors that intervals are made of.
        coverage: of the intervals.
        draw: takes a file's place and what there is to look at of its answer; None draws nothing.
        strict: whether a file whose answer cannot be relied on gets an error and no answer.
    """

    def __init__(
        self, asked: Sequence[Asked], calibration: Errors, coverage: float, draw: Draw | None, *, strict: bool = False
    ) -> None:
        self.asked = asked
        self.calibration = calibration
        self.coverage = coverage
        self.draw = draw
        self.strict = strict

    def give(self, i: int, months: Tensor, batch: Batch, sample: FileSample, apart: Tensor | None = None) -> dict[str, Any]:
        """The row of one file of a batch; its picture is drawn.

        Args:
            i: its place in the batch.
            months: ages read [B].
            batch: what they were read from.
            sample: what is known of the files.
            apart: how far apart readings of each film are [B], in months.
        """
        place, sex = int(sample.place[i]), Sex(int(sample.sex[i]))
        row: dict[str, Any] = {
            "file": str(self.asked[place].file),
            "sex": sex.name.lower(),
            "sex_from": sample.sex_from[i],
        }
        if sample.error[i]:
            return row | {"error": sample.error[i]}
        if not months[i].isfinite():
            return row | {"error": "the network gives no number for it"}
        pose, seen, strange = Pose(*(part[i : i + 1].cpu() for part in sample.pose)), batch.regions, sample.strangeness[i] > 0
        row |= self._known(i, sample, pose)
        doubts = self._doubts(sample, seen, i)
        if doubts and self.strict:
            return row | {"error": "refused: " + "; ".join(doubts)}
        row |= self._age(float(months[i]), sex, row.get("age_months"), sure=not strange)
        if apart is not None:
            row["disagreement_months"] = round(float(apart[i]), 1)
        if seen is not None:
            pixels = boxes_in_file(pose.boxes_back(seen.boxes[i : i + 1].cpu()).numpy(), *map(int, sample.size[i]))
            row |= {name: round(float(x), 1) for name, x in zip(BOX_COLUMNS, pixels.flat, strict=True)}
        notes = [sample.notes[i], TURNED.get(int(pose.quarters)), self._grown(row, sex), *doubts]
        row["warnings"] = "; ".join(filter(None, notes))
        if self.draw is not None:
            film, heat, boxes = pose.lay(sample.image[i : i + 1].cpu())[0, 0].numpy(), None, None
            if seen is not None and seen.heat is not None:
                heat, boxes = seen.heat[i].cpu().numpy(), seen.boxes[i].cpu().numpy()
            self.draw(place, Drawing(film, heat, boxes, self._told(row)))
        return row

    @staticmethod
    def _known(i: int, sample: FileSample, pose: Pose) -> dict[str, Any]:
        """What the row says of the patient and of the film."""
        known: dict[str, Any] = {}
        if sample.months[i].isfinite():
            known["age_months"] = round(float(sample.months[i]), 1)
        if sample.strangeness[i].isfinite():
            known["strangeness"] = round(float(sample.strangeness[i]), 2)
        if pose.mirrored:
            known["mirrored"] = "yes"
        elif not sample.strangeness[i] > 0 and sample.laterality[i] < -SURE:
            known["mirrored"] = "no"
        return known

    def _age(self, months: float, sex: Sex, chronological: float | None, *, sure: bool) -> dict[str, Any]:
        """What the row says of the age read, in months; its interval if it is sure that a hand was."""
        answer: dict[str, Any] = {"bone_age_months": round(months, 1), "bone_age": years_and_months(months)}
        if chronological is not None:
            answer["ahead_months"] = round(answer["bone_age_months"] - chronological, 1)
            if (deviation := standard_deviation(chronological, sex)) is not None:
                answer["ahead_deviations"] = round(answer["ahead_months"] / deviation, 1)
        if sure and (interval := interval_of(self.calibration, sex, months, self.coverage)):
            answer["lower_months"], answer["upper_months"] = (round(edge, 1) for edge in interval)
        return answer

    @staticmethod
    def _grown(row: dict[str, Any], sex: Sex) -> str | None:
        if row.get("age_months", 0) >= ADULT_MONTHS:
            return "an adult by the age told"
        return "at the end of growth: an adult's hand looks the same" if row["bone_age_months"] >= GROWN_MONTHS[sex] else None

    @staticmethod
    def _doubts(sample: FileSample, seen: Regions | None, i: int) -> list[str]:
        """Why the answer may be of no worth."""
        doubts = []
        if sample.strangeness[i] > 0:
            doubts.append(f"not recognised as one whole upright hand (strangeness {float(sample.strangeness[i]):.3g}, above 0)")
        if seen is not None and seen.fallback is not None:
            lost = zip(REGIONS, seen.fallback[i].tolist(), strict=True)
            doubts += [f"no {region} region seen, a typical box stands in" for region, fallback in lost if fallback]
        return doubts

    def _told(self, row: dict[str, Any]) -> list[str]:
        """The lines over a picture: no name of any file."""
        estimate = f"bone age {row['bone_age']} ({row['bone_age_months']:.0f} months)"
        if "lower_months" in row:
            low, high = (years_and_months(row[name]) for name in ("lower_months", "upper_months"))
            estimate += f"; {100 * self.coverage:.3g} % of such intervals hold the truth: {low} to {high}"
        patient = f"sex {row['sex']}" + (f", by the {row['sex_from']}" if row["sex_from"] else "")
        if "age_months" in row:
            far, where = abs(row["ahead_months"]), "ahead" if row["ahead_months"] >= 0 else "behind"
            patient += f"; {years_and_months(row['age_months'])} old: {far:.0f} months {where}"
            if "ahead_deviations" in row:
                patient += f" ({abs(row['ahead_deviations']):.1f} SD of Greulich and Pyle)"
        if row.get("mirrored") == "yes":
            patient += "; lay mirrored, turned over"
        return [estimate, patient, row["warnings"] or "no warning"]


def _unlike(names: Sequence[str]) -> list[str]:
    """The names, those that stand for several files with a number; a file system may take capitals for small letters."""
    taken: set[str] = set()
    unlike = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        unlike.append(next(free for free in itertools.chain([name], numbered) if free.lower() not in taken))
        taken.add(unlike[-1].lower())
    return unlike
