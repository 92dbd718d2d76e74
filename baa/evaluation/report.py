"""The report of an evaluation: what its page shows, gathered."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from baa.atomic_io import write_whole
from baa.checkpoints.bundle import describe
from baa.checkpoints.trained_model import Restored
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.evaluation.page import Report, page
from baa.metrics.ages import Predictions, by_group
from baa.metrics.coverage import COVERAGES, share_inside
from baa.plots.figures import age_figure, agreement_figure, coverage_figure, error_figure
from baa.plots.overlay import Drawing, overlay

WORST = 20


def write_report(file: Path, model: Restored, data: HandDataModule, metrics: dict[str, Any], predictions: Predictions) -> None:
    """Write the page of a verdict.

    Args:
        file: of the page.
        model: that was judged.
        data: that it was judged on.
        metrics, predictions: the verdict.
    """
    split, dataset = data.judged, data.datasets[data.judged]
    cases = dataset.radiographs.cases
    known = [i for i, case in enumerate(cases) if case.months is not None]
    off = (predictions.months - dataset.labels.months).abs()
    report = Report(
        title=f"{model.stage}: {len(cases)} radiographs ({split})",
        split=split,
        metrics=metrics,
        figures=_figures(data, metrics, predictions) if known else [],
        worst=[_shown(data, predictions, i) for i in sorted(known, key=lambda i: -float(off[i]))[:WORST]],
        card=describe(model) | {"trained or chosen on": f"{len(model.lineage.seen)} radiographs"},
    )
    write_whole(file, page(report))


def _figures(data: HandDataModule, metrics: dict[str, Any], predictions: Predictions) -> list[Figure]:
    split, cases = data.judged, data.datasets[data.judged].radiographs.cases
    months = predictions.months.numpy()
    pairs = np.array([(case.months, read) for case, read in zip(cases, months, strict=True) if case.months is not None])
    groups = by_group(metrics, split)
    errors = {group: (found["mae"], *found["mae_ci"]) for group, found in groups.items() if "mae" in found}
    figures = [age_figure(cases, months, split), agreement_figure(*pairs.T), error_figure(errors)]
    names = [share_inside(coverage) for coverage in COVERAGES]
    inside = {group: [found[name] for name in names] for group, found in groups.items() if set(names) <= found.keys()}
    return [*figures, coverage_figure(COVERAGES, inside)] if inside else figures


def _shown(data: HandDataModule, predictions: Predictions, i: int) -> tuple[str, Image.Image]:
    dataset = data.datasets[data.judged]
    case, image = dataset.radiographs.cases[i], dataset[i].image
    heat = boxes = None
    if isinstance(data, CropDataModule):
        _, regions = data.look(image[None].float() / 255)
        assert regions.heat is not None
        boxes, heat = regions.boxes[0].numpy(), regions.heat[0].numpy()
    true, read = float(dataset.labels.months[i]), float(predictions.months[i])
    caption = f"{case.id}, {case.sex.name.lower()}: true {true:.0f}, read {read:.0f} months ({read - true:+.0f})"
    return caption, overlay(Drawing(image[0].numpy(), heat, boxes, [caption]))
