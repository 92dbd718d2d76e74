"""Evaluate a trained model: `python -m baa.evaluate --out DIR [--checkpoint F] [key=value ...]`."""

from pathlib import Path
from typing import Any

from baa.cli import (
    checkpoint_option,
    command_parser,
    keep_libraries_quiet,
    parse_with_settings,
    run_command,
    settings_argument,
)
from baa.metrics.coverage import COVERAGE, COVERAGES, interval_width, share_inside

OTHER_COVERAGES = tuple(
    name(coverage) for coverage in COVERAGES if coverage != COVERAGE for name in (share_inside, interval_width)
)
"""Interval metrics of other coverages. metrics.json has them, the printed summary does not."""

EPILOG = """\
A checkpoint needs nothing else: it has its settings, and the locator whose crops it was trained on. Settings given here
override its own: other radiographs (data.root=..., data.source=table data.table.file=...), another box method
(crops.box_method=peak). Settings of trained networks cannot change, except estimator.flip_average.

what it writes, in DIR
  metrics.json       as a run's: {stage: {"test/mae": months, "test/mae_ci": [low, high], ...}}; also the share of true ages
                     inside intervals of 50 to 95 %, and the trained fusion weights
  predictions.csv    id, sex, true and predicted months, interval, both boxes in pixels of the file, fallback
  report.html        all results on one page: published figures, error by subgroup, intervals, largest errors
  ages.png, heat_maps.png
  readings.json      with --compare-readings: regions against annotations for every heat map method and mode and box method
  faithfulness.json  with --faithfulness: how far the locator's age moves when the hottest, random or the coldest cells are
                     hidden (months, by age band), and how alike the maps of random weights are (rank correlation)

examples
  python -m baa.evaluate --checkpoint runs/rsna/estimator/best.ckpt --out evaluated
  python -m baa.evaluate --checkpoint runs/rsna/locator/best.ckpt --out boxes --split unseen --compare-readings data.roi=roi.csv
  python -m baa.evaluate --checkpoint runs/rsna/estimator/best.ckpt --out evaluated \\
      --against runs/baseline/estimator/predictions.csv
"""


def main() -> None:
    """Parse, evaluate, print the summary."""
    parser = command_parser("evaluate", "Evaluate a trained model on a split of any radiographs.", EPILOG)
    checkpoint_option(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test", "unseen"),
        default="test",
        help="which cases; unseen: all that the model was neither trained nor chosen on (default: test; all cases of a source "
        "without a split of its own, if the model has seen none of them)",
    )
    parser.add_argument("--compare-readings", action="store_true", help="measure every heat map method and mode and box method")
    parser.add_argument("--faithfulness", action="store_true", help="measure whether the heat maps show what the locator uses")
    parser.add_argument(
        "--against", type=Path, metavar="CSV", help="another predictions.csv of these cases: adds the paired difference"
    )
    settings_argument(parser, over="the checkpoint's")
    arguments = parse_with_settings(parser)

    from lightning.pytorch.utilities import rank_zero_only  # torch is not imported for --help

    from baa.api import load_model

    keep_libraries_quiet()
    result = load_model(arguments.checkpoint, device="cpu").evaluate(
        arguments.settings,
        split=arguments.split,
        out=arguments.out,
        compare=arguments.compare_readings,
        faithful=arguments.faithfulness,
        against=arguments.against,
    )
    rank_zero_only(_print)(arguments.out, result)


def _print(out: Path, result: dict[str, Any]) -> None:
    for stage, metrics in result.items():
        print(f"{stage}:")
        for name, value in metrics.items():
            if name.endswith(OTHER_COVERAGES):
                continue
            shown = [round(edge, 3) for edge in value] if isinstance(value, list) else round(value, 3)
            print(f"  {name} {shown}")
    print(f"written to {out}")


if __name__ == "__main__":
    run_command(main)
