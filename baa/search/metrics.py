"""The metrics that a trial has. A search for another one would train in vain."""

import difflib
import itertools

from baa.config.schema import REGIONS, Config
from baa.errors import InputError
from baa.metrics.ages import REPORTED_BANDS_MONTHS, age_metrics
from baa.metrics.conformal import CALIBRATED_BANDS_MONTHS
from baa.metrics.coverage import COVERAGE, interval_width, share_inside
from baa.metrics.localization import CARPAL, FOUND_BY
from baa.patient import Sex

FUSION = "fusion/"
"""Prefix of the fusion weights that an estimator learns; which they are depends on its settings."""


def check_metric(metric: str, config: Config, *, every_epoch: bool) -> None:
    """Refuse a metric that the last stage of a run does not have.

    Args:
        metric: its name.
        config: of the run.
        every_epoch: it must be known after each epoch, for early termination.

    Raises:
        InputError: there is no such metric, or it is known at the end alone.
    """
    by_epoch, final = epoch_metrics(), final_metrics(config)
    if metric in by_epoch or (metric.startswith(FUSION) and config.stages[-1] != "locator"):
        return
    if metric not in final:
        near = difflib.get_close_matches(metric, [*by_epoch, *final], 1, 0.5)
        raise InputError(f"metric: no run logs {metric}; " + (f"did you mean {near[0]}?" if near else "give val/mae"))
    if every_epoch:
        raise InputError(f"early_terminate: {metric} is logged after the last epoch only; give {' or '.join(by_epoch)}")


def epoch_metrics() -> list[str]:
    """Names of the metrics of every epoch, apart from fusion weights."""
    return [*age_metrics("val/"), "train/loss", "train/mae"]


def final_metrics(config: Config) -> list[str]:
    """Names of the metrics of the test split, for the last stage of a run. Those of regions need annotations."""
    values, intervals = [*age_metrics(""), "cases", "bias"], [share_inside(COVERAGE), interval_width(COVERAGE)]
    groups = ["", *(f"{sex.name.lower()}/" for sex in Sex)]
    bands = [f"{low}_to_{high - 1}_months/" for low, high in itertools.pairwise(REPORTED_BANDS_MONTHS)]
    names = [f"{group}{value}" for group in [*groups, *bands] for value in values]
    names += [
        f"{group}{value}" for group in [*groups, *(f"{band}/" for band in CALIBRATED_BANDS_MONTHS)] for value in intervals
    ]
    data, is_annotated = config.data, config.data.source == "phantom"
    if config.stages[-1] != "estimator" or set(config.estimator.streams) & set(REGIONS):
        names += [f"{region}_fallback" for region in REGIONS]
        if data.roi or is_annotated:
            has_prior = any(region.prior_sigma for region in config.crops.regions().values())
            found_by = [suffix for suffix in FOUND_BY if has_prior or suffix != "_prior"]
            measured = [f"{name}{suffix}" for name in ("pointing", "iou", "coverage") for suffix in found_by]
            names += [f"{region}_{name}" for region in REGIONS for name in ("marked", *measured)]
        if CARPAL in REGIONS and (data.capitate or is_annotated):
            names += [f"capitate_{name}" for name in ("marked", "in_box", "distance", "distance_of_hand")]
    return [f"test/{name}" for name in names]
