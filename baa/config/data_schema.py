"""The settings of the data: sources, tables, splits, augmentation."""

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baa.config.setting import group, setting

_SOURCES_FOLDER = Path(__file__).parents[1] / "data" / "sources"
SOURCES = tuple(sorted(m.name for m in pkgutil.iter_modules([str(_SOURCES_FOLDER)]) if not m.name.startswith("_")))
"""A data source is a module of `baa.data.sources`. Listed by name: importing them would import torch."""


@dataclass
class TableConfig:
    """Columns of a table of radiographs."""

    file: str | None = setting(None, "a CSV, Parquet or Excel file, one row per radiograph")
    image: str = setting("image", "column: image file, relative to data.root")
    id: str | None = setting(None, "column: id; null takes the image's stem")
    months: str | None = setting("age", "column: bone age, in age_unit")
    sex: str | None = setting("sex", "column: sex")
    split: str | None = setting(None, "column: train, val or test; keeps all radiographs of a child together")
    patient: str | None = setting(None, "column: patient; all radiographs of a patient get the same split")
    age_unit: Literal["months", "years", "days"] = setting("months", "unit of the age column")


@dataclass
class PhantomConfig:
    """Synthetic hands."""

    count: int = setting(600, "number of hands", low=1, most=1_000_000)
    seed: int = setting(0, "seed of the hands", low=0)


@dataclass
class SplitConfig:
    """Training, validation and test split."""

    by: Literal["auto", "source", "hash"] = setting("auto", "the source's own, a hash of the id, or auto: own if there is one")
    seed: int = setting(0, "seed of the hash")
    val: float = setting(0.1, "share of the validation split; also drawn from the training cases of a source without one")
    test: float = setting(0.1, "share of the test split")
    test_ids: str | None = setting(None, "a CSV with a column id: these cases are always in the test split")
    folds: int | None = setting(
        None, "cross-validation: number of folds of all cases outside the test split; replaces val", low=2, most=1000
    )
    fold: int = setting(0, "cross-validation: the fold that is the validation split, from 0", low=0)


@dataclass
class AugmentConfig:
    """Data augmentation, drawn anew for each training image."""

    degrees: float = setting(15.0, "rotation by up to +-degrees", low=0, high=180)
    scale: float = setting(0.1, "scaling by a factor of 1 +- scale", low=0, high=0.9)
    shift: float = setting(0.05, "translation by up to +-shift of the side", low=0, high=1)
    contrast: float = setting(0.2, "contrast factor of 1 +- contrast", low=0, high=1)
    brightness: float = setting(0.1, "addition of up to +-brightness", low=0, high=1)
    flip: float = setting(0.5, "probability of a left-right flip", low=0, high=1)


@dataclass
class DataConfig:
    """Radiographs: where they come from and how they are kept."""

    source: str = setting("rsna", "where cases come from", choices=SOURCES)
    root: str | None = setting(None, "folder of the radiographs")
    table: TableConfig = group(TableConfig, "data.source=table: its columns")
    phantom: PhantomConfig = group(PhantomConfig, "data.source=phantom: synthetic hands")
    split: SplitConfig = group(SplitConfig, "training, validation and test split")
    source_px: int = setting(640, "side of the square source that views and crops are cut from, pixels", low=32, most=8192)
    cache: str = setting("runs/cache", "folder of decoded radiographs and cached boxes")
    on_bad: Literal["stop", "skip"] = setting("stop", "bad rows and images: stop, or skip and list them in skipped.csv")
    workers: int = setting(2, "processes that decode and load", low=0, most=1024)
    balance: float = setting(0.0, "training: 0 draws cases, 1 draws years of age equally often", low=0, high=1)
    sex_dropout: float = setting(0.0, "training: probability that a case's sex is hidden", low=0, high=1)
    limit: int | None = setting(None, "most cases per split, for a quick trial", low=1)
    roi: str | None = setting(None, "CSV of annotated boxes for evaluation: id, region, xmin, ymin, xmax, ymax")
    capitate: str | None = setting(None, "CSV of annotated carpal centers for evaluation: id, x, y")
    augment: AugmentConfig = group(AugmentConfig, "data augmentation")
