"""The content of an evaluation's report page."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from baa.atomic_io import write_atomic
from baa.checkpoints.bundle import describe
from baa.checkpoints.trained_model import TrainedModel
from baa.data.datamodules import CropDataModule, HandDataModule
from baa.evaluation.page import Report, page
from baa.evaluation.split import region_names
from baa.metrics.ages import by_group
from baa.metrics.coverage import COVERAGES, share_inside
from baa.metrics.predictions import Predictions
from baa.nets.regions import PRIOR
from baa.plots.figures import age_figure, agreement_figure, coverage_figure, error_figure
from baa.plots.overlay import Drawing, overlay, prior_note

WORST = 20


def write_report(
    file: Path, trained: TrainedModel, data: HandDataModule, metrics: dict[str, Any], predictions: Predictions
) -> None:
    """Write the report page of an evaluated split.

    Args:
        file: of the page.
        trained: the model.
        data: that it was evaluated on.
        metrics, predictions: of the split.
    """
    split, dataset = data.eval_split, data.datasets[data.eval_split]
    cases = dataset.radiographs.cases
    known = [i for i, case in enumerate(cases) if case.months is not None]
    off = (predictions.months - dataset.labels.months).abs()
    report = Report(
        title=f"{trained.stage}: {len(cases)} radiographs ({split})",
        split=split,
        metrics=metrics,
        figures=_figures(data, metrics, predictions) if known else [],
        worst=[_shown(data, predictions, i) for i in sorted(known, key=lambda i: -float(off[i]))[:WORST]],
        card=describe(trained) | {"trained or chosen on": f"{trained.provenance.count_radiographs()} radiographs"},
    )
    write_atomic(file, page(report))


def _figures(data: HandDataModule, metrics: dict[str, Any], predictions: Predictions) -> list[Figure]:
    split, cases = data.eval_split, data.datasets[data.eval_split].radiographs.cases
    months = predictions.months.numpy()
    pairs = np.array([(case.months, read) for case, read in zip(cases, months, strict=True) if case.months is not None])
    groups = by_group(metrics, split)
    errors = {group: (found["mae"], *found["mae_ci"]) for group, found in groups.items() if "mae" in found}
    figures = [age_figure(cases, months, split), agreement_figure(*pairs.T), error_figure(errors)]
    names = [share_inside(coverage) for coverage in COVERAGES]
    inside = {group: [found[name] for name in names] for group, found in groups.items() if set(names) <= found.keys()}
    return [*figures, coverage_figure(COVERAGES, inside)] if inside else figures


def _shown(data: HandDataModule, predictions: Predictions, i: int) -> tuple[str, Image.Image]:
    dataset = data.datasets[data.eval_split]
    case, image = dataset.radiographs.cases[i], dataset[i].image
    true, predicted = float(dataset.labels.months[i]), float(predictions.months[i])
    caption = f"{case.id}, {case.sex.name.lower()}: true {true:.0f}, predicted {predicted:.0f} months ({predicted - true:+.0f})"
    film, names = image[0].numpy(), region_names(data)
    if not isinstance(data, CropDataModule):
        return caption, overlay(Drawing(film, None, None, lines=[caption], regions=names))
    _, regions = data.localize(image[None].float() / 255)
    assert regions.heat is not None
    boxes, heat, prior_boxes, lines = regions.boxes[0].numpy(), regions.heat[0].numpy(), None, [caption]
    if (shares := regions.prior_shares()) is not None:
        prior_boxes = regions.instead[PRIOR].boxes[0].numpy()
        lines.append(prior_note(dict(zip(names, shares[0].tolist(), strict=True))))
    return caption, overlay(Drawing(film, heat, boxes, lines, names, prior_boxes))
