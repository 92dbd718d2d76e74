"""Figures of a stress test: the error under each transformation, and one radiograph under all of them."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

COLUMNS = 7
INCHES = 1.7


def stress_figure(table: pd.DataFrame) -> Figure:
    """The MAE and the share of ages that change by more than a year, one row per transformation.

    Args:
        table: of `baa.inference.stress.stress_table`.
    """
    figure = Figure(figsize=(11, 0.24 * len(table) + 1), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(table))
    if "mae" in table:
        reach = [table.mae - table.mae_low, table.mae_high - table.mae]
        left.errorbar(table.mae, rows, xerr=reach, fmt="o", color="tab:blue", capsize=2, markersize=4)
        left.axvline(table.mae[0], color="black", linewidth=0.8)
    left.set_yticks(rows, table.transformation)
    left.invert_yaxis()
    left.set(xlabel="MAE (months), 95 % interval", title="error")
    right.barh(rows, 100 * table.changed_over_12, color="tab:orange", label="age changes by more than 12 months")
    if "not_recognized" in table:
        right.plot(100 * table.not_recognized, rows, "k|", label="not recognized, a warning")
    right.set(xlabel="radiographs (%)", title="changes")
    right.legend(fontsize="small")
    return figure


def transformed_figure(films: Mapping[str, np.ndarray]) -> Figure:
    """A radiograph under each transformation, as the model receives it.

    Args:
        films: [S, S] uint8 by name.
    """
    rows = math.ceil(len(films) / COLUMNS)
    figure = Figure(figsize=(INCHES * COLUMNS, (INCHES + 0.25) * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, film) in zip(axes, films.items(), strict=False):
        axis.imshow(film, cmap="gray", vmin=0, vmax=255)
        axis.set_title(name, fontsize=7)
    return figure
