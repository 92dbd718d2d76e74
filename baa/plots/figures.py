"""Figures of a run: localization (fig. 9 of Li et al. 2023), predicted ages (fig. 10), error, intervals, learning curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from baa.atomic_io import atomic_path
from baa.data.cases import Case
from baa.names import printable
from baa.patient import Sex

REGION_COLORS = {"carpal": "limegreen", "hand": "red"}
OTHER_COLORS = ("deepskyblue", "orange", "magenta", "yellow")
"""For regions without an entry in `REGION_COLORS`. Matplotlib, Pillow and CSS all have these names."""

SEX_COLORS = {Sex.FEMALE: "tab:purple", Sex.MALE: "tab:orange", Sex.UNKNOWN: "tab:gray"}
ROW_INCHES, COLUMN_INCHES = 7 / 3, 2.2


def region_color(name: str, index: int) -> str:
    """The color of a region.

    Args:
        name: the region's name.
        index: its place among the regions, which selects a color if the name has none.
    """
    return REGION_COLORS.get(name, OTHER_COLORS[index % len(OTHER_COLORS)])


def localization_figure(
    images: np.ndarray,
    heat: np.ndarray,
    boxes: np.ndarray,
    titles: Sequence[str],
    regions: Sequence[str],
    gt_boxes: np.ndarray | None = None,
    prior_boxes: np.ndarray | None = None,
) -> Figure:
    """One column per radiograph: the first row shows all boxes, the next rows show each region's heat map and box.

    Args:
        images: [N, S, S] in [0, 1].
        heat: [N, R, S, S], not negative.
        boxes: [N, R, 4], shares of the square image.
        titles: one per radiograph.
        regions: names of the R regions.
        gt_boxes: annotated boxes [N, R, 4], dotted; NaN where unknown.
        prior_boxes: where a spatial prior alone puts the boxes [N, R, 4], dashed; NaN where there is none.
    """
    captions = ("boxes", *(f"heat map: {name}" for name in regions))
    size = (COLUMN_INCHES * len(images), ROW_INCHES * len(captions))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(captions), len(images), squeeze=False)
    for column, title in enumerate(titles):
        for row, axis in enumerate(axes[:, column]):
            axis.imshow(images[column], cmap="gray", vmin=0, vmax=1, extent=(0, 1, 1, 0))
            axis.set_axis_off()
            if row:
                axis.imshow(heat[column, row - 1], cmap="jet", alpha=0.4, extent=(0, 1, 1, 0))
            for region, name in enumerate(regions):
                if row in (0, region + 1):
                    color = region_color(name, region)
                    for drawn, style in ((boxes, "-"), (gt_boxes, ":"), (prior_boxes, "--")):
                        if drawn is not None:
                            _draw_box(axis, drawn[column, region], color, style)
        axes[0, column].set_title(_shown(title), fontsize=9, parse_math=False)
    for axis, caption in zip(axes[:, 0], captions, strict=True):
        axis.text(-0.05, 0.5, caption, rotation=90, va="center", ha="right", transform=axis.transAxes)
    return figure


def _shown(title: str) -> str:
    """Make names of foreign origin drawable. Draw them with `parse_math=False`: what looks like TeX and is none is an error."""
    return "\n".join(map(printable, title.split("\n")))


def _draw_box(axis: Axes, box: np.ndarray, color: str, style: str) -> None:
    x0, y0, x1, y1 = box
    if np.isfinite(box).all():
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linestyle=style, linewidth=1.5))


def age_figure(cases: Sequence[Case], months: np.ndarray, title: str) -> Figure:
    """Predicted age and error against true age, by sex. Cases without an age are left out."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for sex in Sex:
        chosen = [i for i, case in enumerate(cases) if case.sex == sex and case.months is not None]
        if chosen:
            true = np.array([cases[i].months for i in chosen])
            style = {"s": 14, "alpha": 0.7, "color": SEX_COLORS[sex], "label": sex.name.lower()}
            left.scatter(true, months[chosen], **style)
            right.scatter(true, months[chosen] - true, **style)
    left.axline((0, 0), slope=1, color="black", linewidth=0.8)
    right.axhline(0, color="black", linewidth=0.8)
    left.set(xlabel="true age (months)", ylabel="predicted age (months)")
    left.set_title(_shown(title), parse_math=False)
    right.set(xlabel="true age (months)", ylabel="predicted - true (months)", title="error")
    left.legend()
    return figure


def agreement_figure(true: np.ndarray, months: np.ndarray) -> Figure:
    """The difference of predicted and true age against their mean, with limits of agreement.

    Bland and Altman, "Statistical methods for assessing agreement", Lancet 1986.

    Args:
        true, months: true and predicted ages [N].
    """
    difference, mean = months - true, (months + true) / 2
    bias, spread = float(difference.mean()), float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axis = figure.subplots()
    axis.scatter(mean, difference, s=14, alpha=0.6, color="tab:blue")
    for value, name in ((bias, "bias"), (bias - 1.96 * spread, "-1.96 SD"), (bias + 1.96 * spread, "+1.96 SD")):
        axis.axhline(value, color="black", linewidth=0.8, linestyle="-" if name == "bias" else "--")
        axis.text(1.0, value, f"{name} {value:.1f}", transform=axis.get_yaxis_transform(), ha="right", va="bottom", fontsize=8)
    axis.set(xlabel="mean of predicted and true age (months)", ylabel="predicted - true (months)", title="agreement")
    return figure


def error_figure(groups: Mapping[str, tuple[float, float, float]], title: str = "error by subgroup") -> Figure:
    """The MAE of subgroups or runs with its interval: name -> (MAE, low, high), in months."""
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axis = figure.subplots()
    for row, (mae, low, high) in enumerate(groups.values()):
        axis.errorbar(mae, row, xerr=[[mae - low], [high - mae]], fmt="o", color="tab:blue", capsize=3)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.invert_yaxis()
    axis.set(xlabel="MAE (months), 95 % interval", title=title)
    return figure


def coverage_figure(requested: Sequence[float], observed: Mapping[str, Sequence[float]]) -> Figure:
    """The observed coverage of prediction intervals against the requested coverage, one line per subgroup."""
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, shares in observed.items():
        axis.plot(requested, shares, marker=".", label=name)
    axis.axline((0, 0), slope=1, color="black", linewidth=0.8)
    axis.set(
        xlabel="requested coverage", ylabel="observed coverage", title="prediction intervals", xlim=(0.4, 1), ylim=(0.4, 1)
    )
    axis.legend(fontsize="small")
    return figure


def curve_figure(curve: pd.DataFrame, title: str) -> Figure:
    """The training and validation MAE and the training loss by epoch."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in ("train/mae", "val/mae"):
        left.plot(curve["epoch"] + 1, curve[name], marker=".", label=name)
    right.plot(curve["epoch"] + 1, curve["train/loss"], marker=".")
    left.set(xlabel="epoch", ylabel="MAE (months)")
    left.set_title(_shown(title), parse_math=False)
    right.set(xlabel="epoch", ylabel="training loss")
    for axis in (left, right):
        logarithmic(axis)
    left.legend()
    return figure


def logarithmic(axis: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers beside it."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")


def save(figure: Figure, file: Path, *, grow: bool = False) -> None:
    """Write a figure as PNG; `grow` makes room for labels that reach beyond it."""
    FigureCanvasAgg(figure)
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png", bbox_inches="tight" if grow else None)
