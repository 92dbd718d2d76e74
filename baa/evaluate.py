"""Evaluate a trained model: `python -m baa.evaluate --out DIR [--checkpoint F] [key=value ...]`."""

from pathlib import Path
from typing import Any

from baa.cli import (
    command_parser,
    keep_libraries_quiet,
    models_option,
    parse_with_settings,
    run_command,
    settings_argument,
    split_option,
    take_models,
)
from baa.metrics.coverage import COVERAGE, COVERAGES, interval_width, share_inside

OTHER_COVERAGES = tuple(
    name(coverage) for coverage in COVERAGES if coverage != COVERAGE for name in (share_inside, interval_width)
)
"""Interval metrics of other coverages. metrics.json has them, the printed summary does not."""

EPILOG = """\
what it does
  Tests a checkpoint or a bundle. It contains its settings, and the locator whose crops it was trained on. Settings given
  here override them: other radiographs (data.root=..., data.source=table data.table.file=...), another box method
  (crops.box_method=peak). Settings of trained networks cannot change, except estimator.flip_average.

what it writes, in DIR
  metrics.json       as in a run (Metrics in conf/README.md); also the coverage of
                     intervals of 50 to 95 %, and the trained fusion weights
  predictions.csv    id, sex, true and predicted months, interval, both bounding boxes in pixels of the file, fallback
  report.html        all results on one page: published figures, error by subgroup, intervals, largest errors
  ages.png, heat_maps.png
  readings.json      with --compare-readings: localization by every heat map method, mode and box method
  faithfulness.json  with --faithfulness: by how many months the locator's age moves when the hottest, random or coldest cells
                     are hidden; rank correlation of its heat maps with those of randomized weights

examples
  python -m baa.evaluate --checkpoint runs/rsna/locator/best.ckpt --out boxes --split unseen --compare-readings data.roi=roi.csv
  python -m baa.evaluate --checkpoint runs/rsna/estimator/best.ckpt --out evaluated \\
      --against runs/baseline/estimator/predictions.csv
  python -m baa.evaluate --checkpoint runs/fold0/estimator/best.ckpt runs/fold1/estimator/best.ckpt --out ensemble
"""


def main() -> None:
    """Parse, evaluate, print the summary."""
    parser = command_parser("evaluate", "Evaluate a trained model on a split of any radiographs.", EPILOG)
    models_option(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    split_option(parser)
    parser.add_argument("--compare-readings", action="store_true", help="compare all heat map methods, modes and box methods")
    parser.add_argument(
        "--faithfulness", action="store_true", help="test whether the age depends on the hot cells of a heat map"
    )
    parser.add_argument(
        "--against", type=Path, metavar="CSV", help="another predictions.csv of these cases: adds the paired difference"
    )
    settings_argument(parser, over="the checkpoint's")
    arguments = parse_with_settings(parser)
    take_models(arguments, "settings")

    from lightning.pytorch.utilities import rank_zero_only  # torch is not imported for --help

    from baa.api import load_model

    keep_libraries_quiet()
    result = load_model(arguments.checkpoint, weights=arguments.weights, device="cpu").evaluate(
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
