"""What local calibration gains at simulated sites: `python -m baa.benchmarks.local_sites evaluated/predictions.csv`.

A site is a random sample of a table of predictions. Its readers are simulated: their ages are the table's, changed by a line
and noise. Lines are learned from some cases and judged on all others.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from baa.metrics.local_line import IDENTITY, Line, apply_lines, fit_lines
from baa.patient import Sex

SAMPLES = 200
"""Random samples of each site and size."""

SIZES = (30, 100, 200)
WORSE_MONTHS = 0.25
"""A site is worse off if its MAE rises by more than this."""


class Site(NamedTuple):
    """Readers of a site: a line by sex from the ages of the table to theirs, and the standard deviation of their noise."""

    name: str
    girls: Line = IDENTITY
    boys: Line = IDENTITY
    noise: float = 0.0


SITES = (
    Site("the readers of the table"),
    Site("girls and boys 6 months older", Line(6.0, 1.0), Line(6.0, 1.0)),
    Site("girls 4 months older, boys 4 younger", Line(4.0, 1.0), Line(-4.0, 1.0)),
    Site("slope 1.1", Line(0.0, 1.1), Line(0.0, 1.1)),
    Site("noise of 8 months", noise=8.0),
)


class Gain(NamedTuple):
    """MAE in months on the other cases, before and after calibration: means of the samples; and the share made worse."""

    before: float
    after: float
    worse: float


def simulate(table: pd.DataFrame, site: Site, size: int, *, samples: int, seed: int = 0) -> Gain:
    """Calibrate at a site again and again, each time on `size` random cases.

    Args:
        table: columns `sex` (female or male), `predicted_months`, `true_months`.
        site: the readers.
        size: cases to calibrate on.
        samples: how often.
        seed: of samples and noise.

    Example:
        >>> months = np.linspace(20, 200, 400)
        >>> table = pd.DataFrame({"sex": ["female", "male"] * 200, "predicted_months": months, "true_months": months})
        >>> gain = simulate(table, SITES[1], 30, samples=3)
        >>> gain.before, gain.after < 1
        (6.0, True)
    """
    rng = np.random.default_rng(seed)
    sexes = [Sex[sex.upper()] for sex in table["sex"]]
    predicted, true = (table[column].to_numpy(float) for column in ("predicted_months", "true_months"))
    local = apply_lines({Sex.FEMALE: site.girls, Sex.MALE: site.boys}, sexes, true)
    maes = []
    for _ in range(samples):
        noisy = local + rng.normal(0, site.noise, len(local))
        order = rng.permutation(len(local))
        learned, judged = order[:size], order[size:]
        lines = fit_lines([sexes[i] for i in learned], predicted[learned], noisy[learned]).lines
        ages = apply_lines(lines, [sexes[i] for i in judged], predicted[judged])
        maes.append((np.abs(predicted[judged] - noisy[judged]).mean(), np.abs(ages - noisy[judged]).mean()))
    before, after = np.array(maes).T
    return Gain(float(before.mean()), float(after.mean()), float((after - before > WORSE_MONTHS).mean()))


def main() -> None:
    """Print a row per site: the MAE untouched, and after calibration on 30, 100 and 200 cases."""
    parser = argparse.ArgumentParser("python -m baa.benchmarks.local_sites", description="Calibrate at simulated sites.")
    parser.add_argument("table", type=Path, metavar="FILE", help="predictions.csv of baa.evaluate")
    file = parser.parse_args().table
    if not file.is_file():
        parser.error(f"{file} does not exist; give predictions.csv of baa.evaluate")
    table = pd.read_csv(file).dropna(subset=["true_months", "predicted_months"])
    table = table[table["sex"] != Sex.UNKNOWN.name.lower()]
    if len(table) < 2 * max(SIZES):
        parser.error(f"{file}: {len(table)} cases have sex and age; {2 * max(SIZES)} are needed")
    print("| readers | MAE untouched |" + "".join(f" calibrated on {size} (worse off) |" for size in SIZES))
    print("|---|---|" + "---|" * len(SIZES))
    for site in tqdm(SITES, file=sys.stderr, leave=False):
        gains = [simulate(table, site, size, samples=SAMPLES) for size in SIZES]
        cells = "".join(f" {gain.after:.2f} ({gain.worse:.0%}) |" for gain in gains)
        print(f"| {site.name} | {gains[-1].before:.2f} |{cells}")


if __name__ == "__main__":
    main()
