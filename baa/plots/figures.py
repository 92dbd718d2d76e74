"""Figures of a run: where the locator looked (fig. 9 of Li et al. 2023), how the ages came out (fig. 10), how it learnt."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from baa.atomic_io import replacing
from baa.data.cases import Case
from baa.nets.cropper import REGIONS
from baa.patient import Sex

REGION_COLOURS = {"carpal": "limegreen", "hand": "red"}
SEX_COLOURS = {Sex.FEMALE: "tab:purple", Sex.MALE: "tab:orange", Sex.UNKNOWN: "tab:grey"}


def localisation_figure(
    images: np.ndarray, heat: np.ndarray, boxes: np.ndarray, titles: Sequence[str], truth: np.ndarray | None = None
) -> Figure:
    """Radiographs in a row; below each, its heat maps before and after the carpal region is blacked out.

    Args:
        images: [N, S, S] in [0, 1].
        heat: [N, 2, S, S], not negative.
        boxes: [N, 2, 4] as shares of the square; carpal green, hand red.
        titles: one for each.
        truth: true boxes like `boxes`, NaN where unknown, dashed.
    """
    figure = Figure(figsize=(2.2 * len(images), 7), layout="constrained")
    axes = figure.subplots(3, len(images), squeeze=False)
    for column, title in enumerate(titles):
        for row, axis in enumerate(axes[:, column]):
            axis.imshow(images[column], cmap="gray", vmin=0, vmax=1, extent=(0, 1, 1, 0))
            axis.set_axis_off()
            if row:
                axis.imshow(heat[column, row - 1], cmap="jet", alpha=0.4, extent=(0, 1, 1, 0))
            for region, name in enumerate(REGIONS):
                if row in (0, region + 1):
                    _draw_box(axis, boxes[column, region], REGION_COLOURS[name], "-")
                    if truth is not None:
                        _draw_box(axis, truth[column, region], REGION_COLOURS[name], ":")
        axes[0, column].set_title(title, fontsize=9)
    for axis, text in zip(axes[:, 0], ("boxes", "first look", "second look"), strict=True):
        axis.text(-0.05, 0.5, text, rotation=90, va="center", ha="right", transform=axis.transAxes)
    return figure


def _draw_box(axis: Axes, box: np.ndarray, colour: str, style: str) -> None:
    x0, y0, x1, y1 = box
    if np.isfinite(box).all():
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linestyle=style, linewidth=1.5))


def age_figure(cases: Sequence[Case], months: np.ndarray, title: str) -> Figure:
    """Predicted against true age, and the error over the age, by sex. Cases without an age are not drawn."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for sex in Sex:
        chosen = [i for i, case in enumerate(cases) if case.sex == sex and case.months is not None]
        if chosen:
            true = np.array([cases[i].months for i in chosen])
            style = {"s": 14, "alpha": 0.7, "color": SEX_COLOURS[sex], "label": sex.name.lower()}
            left.scatter(true, months[chosen], **style)
            right.scatter(true, months[chosen] - true, **style)
    left.axline((0, 0), slope=1, color="black", linewidth=0.8)
    right.axhline(0, color="black", linewidth=0.8)
    left.set(xlabel="true age (months)", ylabel="predicted age (months)", title=title)
    right.set(xlabel="true age (months)", ylabel="predicted - true (months)", title="error")
    left.legend()
    return figure


def agreement_figure(true: np.ndarray, months: np.ndarray) -> Figure:
    """Bland and Altman, "Statistical methods for assessing agreement", Lancet 1986: difference over mean, and its limits.

    Args:
        true, months: ages [N].
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


def error_figure(groups: Mapping[str, tuple[float, float, float]]) -> Figure:
    """MAE of groups with its interval: name -> (MAE, low, high), in months."""
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axis = figure.subplots()
    for row, (mae, low, high) in enumerate(groups.values()):
        axis.errorbar(mae, row, xerr=[[mae - low], [high - mae]], fmt="o", color="tab:blue", capsize=3)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.invert_yaxis()
    axis.set(xlabel="MAE (months), 95 % interval", title="by whom it is wrong")
    return figure


def coverage_figure(asked: Sequence[float], found: Mapping[str, Sequence[float]]) -> Figure:
    """Share of true ages inside intervals over the share that was asked for, a line for each group."""
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, shares in found.items():
        axis.plot(asked, shares, marker=".", label=name)
    axis.axline((0, 0), slope=1, color="black", linewidth=0.8)
    axis.set(xlabel="coverage asked for", ylabel="coverage found", title="intervals", xlim=(0.4, 1), ylim=(0.4, 1))
    axis.legend(fontsize="small")
    return figure


def curve_figure(curve: pd.DataFrame, title: str) -> Figure:
    """MAE of training and validation, and the training loss, by epoch."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in ("train/mae", "val/mae"):
        left.plot(curve["epoch"] + 1, curve[name], marker=".", label=name)
    right.plot(curve["epoch"] + 1, curve["train/loss"], marker=".")
    left.set(xlabel="epoch", ylabel="MAE (months)", title=title, yscale="log")
    right.set(xlabel="epoch", ylabel="training loss", yscale="log")
    left.legend()
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure as PNG."""
    with replacing(file) as fresh:
        FigureCanvasAgg(figure).print_png(str(fresh))
