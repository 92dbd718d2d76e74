"""The prediction of one radiograph: numbers, a table row, a caption, a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from baa.atomic_io import atomic_path
from baa.metrics.greulich_pyle import standard_deviation
from baa.metrics.saturation import OR_LESS, OR_MORE
from baa.names import safe_cell, safe_path
from baa.patient import Sex, years_and_months
from baa.plots.overlay import Drawing, overlay, prior_note

CORNERS = ("x0", "y0", "x1", "y1")

PNG_LEVEL = 3
"""Compression of pictures: a third of the default's time for 2 % more bytes."""

FIRST_COLUMNS = ("file", "sex", "sex_source", "age_months", "ahead_months", "ahead_deviations")
AGE_COLUMNS = ("bone_age_months", "lower_months", "upper_months", "bone_age", "disagreement_months")
OF_A_STREAM = ("months", "lower_months", "upper_months")
DIFFERENCE = "streams_differ_months"
LAST_COLUMNS = ("mirrored", "ood_score", "warnings", "error", "model")


def columns(regions: Sequence[str], streams: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the columns of `predictions.csv` for a model with these regions and streams with ages."""
    ages = [f"{stream}_{name}" for stream in streams for name in OF_A_STREAM]
    ages += [DIFFERENCE] if len(streams) > 1 else []
    boxes = (f"{region}_{corner}" for region in regions for corner in CORNERS)
    return (*FIRST_COLUMNS, *AGE_COLUMNS, *ages, *boxes, *LAST_COLUMNS)


class StreamAge(NamedTuple):
    """The age that one stream gives alone, in months, and its prediction interval; None if none can be given."""

    months: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction for one radiograph. Ages are in months.

    Attributes:
        file: path, or empty for a radiograph in memory.
        sex: that the model was given.
        sex_source: where it comes from: `option`, `table`, `page`, `file` (its DICOM header), or empty.
        age_months: the chronological age, if known.
        months: the bone age; NaN if there is none, see `error`.
        interval: the prediction interval (lower, upper), 0 or 240 at an open end; None if none can be given.
        open_end: `or more` or `or less` at an age beyond which the model does not distinguish ages; the interval is open there.
        coverage: of the intervals, on data like the validation split.
        regions: names of the regions that the model finds.
        streams: names of the streams that give an age of their own.
        stream_ages: these ages by stream.
        disagreement_months: range of the ages of slightly moved views, if asked for.
        boxes: (x0, y0, x1, y1) by region, in pixels of the file.
        heat_maps: of the locator by region, [h, w], not negative, in the frame of `film`, without any prior.
        prior_shares: the share of each box's place that a spatial prior decided, by region; empty without a prior.
        mirrored: whether the hand was mirrored (and has been flipped); None if that is unclear.
        ood_score: above 0: not recognized as one whole upright hand. None without an input check.
        warnings: reasons for caution.
        error: why there is no bone age, or empty.
        model: name, version and digest of the model.
        film: the square radiograph [S, S] uint8 as the networks received it.
        film_boxes: boxes [R, 4] as shares of `film`.
        prior_boxes: boxes [R, 4] by the spatial prior alone; None without a prior.

    Example:
        >>> prediction = Prediction(file="a.png", sex=Sex.FEMALE, months=123.4, interval=(111.2, 135.6), coverage=0.9)
        >>> prediction.bone_age
        '10 y 3 m'
        >>> prediction.make_row()["bone_age_months"]
        123.4
        >>> prediction.caption()[0]
        'bone age 10 y 3 m (123 months); 90 % interval: 9 y 3 m to 11 y 4 m'
    """

    file: str
    sex: Sex
    sex_source: str = ""
    age_months: float | None = None
    months: float = float("nan")
    interval: tuple[float, float] | None = None
    open_end: str = ""
    coverage: float
    regions: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    stream_ages: Mapping[str, StreamAge] = field(default_factory=dict)
    disagreement_months: float | None = None
    boxes: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)
    heat_maps: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    prior_shares: Mapping[str, float] = field(default_factory=dict)
    mirrored: bool | None = None
    ood_score: float | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
    model: str = ""
    film: np.ndarray | None = field(default=None, repr=False)
    film_boxes: np.ndarray | None = field(default=None, repr=False)
    prior_boxes: np.ndarray | None = field(default=None, repr=False)

    def make_row(self) -> dict[str, Any]:
        """Make the row of `predictions.csv`; values that are unknown are absent."""
        row: dict[str, Any] = {"file": safe_path(self.file), "sex": self.sex.name.lower(), "sex_source": self.sex_source}
        row["model"] = safe_cell(self.model)
        if self.age_months is not None:
            row["age_months"] = round(self.age_months, 1)
        if self.ood_score is not None:
            row["ood_score"] = round(self.ood_score, 2)
        if self.mirrored is not None:
            row["mirrored"] = "yes" if self.mirrored else "no"
        if self.error:
            return row | {"error": safe_cell(self.error)}
        row |= {"bone_age_months": round(self.months, 1), "bone_age": self.bone_age, **self._ahead(), **self._stream_columns()}
        if self.interval is not None:
            edges = zip(("lower_months", "upper_months"), (OR_LESS, OR_MORE), self.interval, strict=True)
            row |= {name: round(edge, 1) for name, end, edge in edges if end != self.open_end}
        if self.disagreement_months is not None:
            row["disagreement_months"] = round(self.disagreement_months, 1)
        for region, box in self.boxes.items():
            row |= {f"{region}_{corner}": round(edge, 1) for corner, edge in zip(CORNERS, box, strict=True)}
        return row | {"warnings": safe_cell("; ".join(self.warnings))}

    @property
    def bone_age(self) -> str:
        """The bone age in years and months, with `or more` or `or less` at an open end."""
        return f"{years_and_months(self.months)} {self.open_end}".rstrip()

    @property
    def difference_months(self) -> float | None:
        """The age of the first stream alone minus that of the second; None without two."""
        ages = [age.months for age in self.stream_ages.values()]
        return ages[0] - ages[1] if len(ages) > 1 else None

    def _stream_columns(self) -> dict[str, float]:
        found = {
            f"{stream}_{name}": round(months, 1)
            for stream, age in self.stream_ages.items()
            for name, months in zip(OF_A_STREAM, (age.months, *(age.interval or ())), strict=False)
        }
        return found if self.difference_months is None else found | {DIFFERENCE: round(self.difference_months, 1)}

    def _ahead(self) -> dict[str, float]:
        """How far the bone age is ahead of the chronological age, in months and in standard deviations."""
        if self.age_months is None:
            return {}
        age = round(self.age_months, 1)
        ahead = {"ahead_months": round(round(self.months, 1) - age, 1)}
        if (deviation := standard_deviation(age, self.sex)) is not None:
            ahead["ahead_deviations"] = round(ahead["ahead_months"] / deviation, 1)
        return ahead

    def caption(self) -> list[str]:
        """Describe the prediction in lines, without a file name: estimate, patient, ages of the streams, prior, warnings."""
        estimate = f"bone age {self.bone_age} ({round(self.months, 1):.0f} months)"
        if self.interval is not None:
            low, high = (years_and_months(round(edge, 1)) for edge in self.interval)
            interval = {OR_LESS: f"{high} {OR_LESS}", OR_MORE: f"{low} {OR_MORE}"}.get(self.open_end, f"{low} to {high}")
            estimate += f"; {100 * self.coverage:.3g} % interval: {interval}"
        patient = f"sex {self.sex.name.lower()}" + (f" (from {self.sex_source})" if self.sex_source else "")
        if self.age_months is not None:
            ahead = self._ahead()
            far, where = abs(ahead["ahead_months"]), "ahead" if ahead["ahead_months"] >= 0 else "behind"
            patient += f"; chronological age {years_and_months(round(self.age_months, 1))}: {far:.0f} months {where}"
            if "ahead_deviations" in ahead:
                patient += f" ({abs(ahead['ahead_deviations']):.1f} SD of Greulich and Pyle)"
        if self.mirrored:
            patient += "; mirrored hand, flipped"
        alone = "; ".join(f"{stream} alone {years_and_months(age.months)}" for stream, age in self.stream_ages.items())
        lines = [estimate, patient, alone, prior_note(self.prior_shares), "; ".join(self.warnings) or "no warning"]
        return [line for line in lines if line]

    def drawing(self) -> Drawing:
        """Return the parts of the picture: radiograph [S, S], heat maps [R, h, w], boxes [R, 4] and caption.

        Raises:
            ValueError: there is no bone age.
        """
        if self.error or self.film is None:
            raise ValueError(f"nothing to draw: {self.error or 'no image was kept'}")
        heat = np.stack(list(self.heat_maps.values())) if self.heat_maps else None
        return Drawing(self.film, heat, self.film_boxes, self.caption(), self.regions, self.prior_boxes)

    def plot(self, file: str | Path | None = None) -> Image.Image:
        """Draw radiograph, boxes, heat maps and caption; also write a PNG if `file` is given."""
        picture = overlay(self.drawing())
        if file is not None:
            with atomic_path(Path(file)) as fresh:
                picture.save(fresh, "PNG", compress_level=PNG_LEVEL)
        return picture

    def to_pandas(self) -> pd.DataFrame:
        """Return the row as a table with the columns of `predictions.csv`."""
        return Predictions([self]).to_pandas()


class Predictions(list[Prediction]):
    """Predictions in the order of the inputs."""

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with the columns of `predictions.csv`, one row per input."""
        regions, streams = (self[0].regions, self[0].streams) if self else ((), ())
        return pd.DataFrame([prediction.make_row() for prediction in self], columns=list(columns(regions, streams)))
