"""Figures that compare runs: learning curves, and differences from the first."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from baa.plots.figures import logarithmic


def curves_figure(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """The validation MAE by epoch, one line per run.

    Args:
        curves: by run, with columns epoch and val/mae.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves.items():
        axis.plot(curve["epoch"] + 1, curve["val/mae"], marker=".", label=name)
    axis.set(xlabel="epoch", ylabel="validation MAE (months)", title="learning curves")
    logarithmic(axis)
    axis.legend(fontsize="x-small")
    return figure


def difference_figure(differences: Mapping[str, tuple[float, float, float]], first: str) -> Figure:
    """The MAE minus that of the first run on the same cases, with its interval: name -> (difference, low, high), in months."""
    figure = Figure(figsize=(7, 0.35 * len(differences) + 1.5), layout="constrained")
    axis = figure.subplots()
    for row, (middle, low, high) in enumerate(differences.values()):
        axis.errorbar(middle, row, xerr=[[middle - low], [high - middle]], fmt="o", color="tab:blue", capsize=3)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(differences)), list(differences))
    axis.invert_yaxis()
    axis.set(xlabel=f"MAE minus that of {first} (months), paired 95 % interval", title="differences")
    return figure
