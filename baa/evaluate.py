"""Judge a checkpoint: `python -m baa.evaluate --out DIR [--checkpoint F] [key=value ...]`."""

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
from baa.model_card import model_path

TRIED = tuple(name(coverage) for coverage in COVERAGES if coverage != COVERAGE for name in (share_inside, interval_width))
"""Metrics of intervals that nobody has asked for: they are in the file, not in the summary."""

EPILOG = """\
The checkpoint alone suffices: it carries its settings, and the locator whose crops it was trained on. Settings given here go
over its own: other radiographs (data.root=..., data.source=table data.table.file=...), another box rule (crops.rule=peak). Of
the networks none can be changed, but estimator.flip_average.

what it writes, in DIR
  metrics.json       the same names as a run's: {stage: {"test/mae": months, "test/mae_ci": [low, high], ...}}; and of intervals
                     of 50 to 95 % the share that holds the true age, and the fusion weights that were learnt
  predictions.csv    id, sex, true and predicted months, interval, both boxes in pixels of the file, whether typical ones
  report.html        all of it on one page: beside published figures, by sex and age, the intervals, the cases furthest off
  ages.png, heat_maps.png
  readings.json      with --compare-readings: where the locator looks under every reading and both box rules

examples
  python -m baa.evaluate --checkpoint runs/rsna/estimator/best.ckpt --out runs/rsna/judged
  python -m baa.evaluate --checkpoint runs/rsna/locator/best.ckpt --out boxes --split unseen --compare-readings data.roi=roi.csv
  python -m baa.evaluate --checkpoint runs/rsna/estimator/best.ckpt --out judged \\
      --against runs/baseline/estimator/predictions.csv
"""


def main() -> None:
    """Parse, judge, print the summary."""
    parser = command_parser("evaluate", "Judge a trained checkpoint on any split of any radiographs.", EPILOG)
    checkpoint_option(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for what it writes")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test", "unseen"),
        default="test",
        help="which cases; unseen: all that the checkpoint was neither trained nor chosen on (default: test)",
    )
    parser.add_argument("--compare-readings", action="store_true", help="measure every heat map reading and box rule")
    parser.add_argument(
        "--against", type=Path, metavar="CSV", help="another predictions.csv of these cases: adds the paired difference"
    )
    settings_argument(parser, over="the checkpoint's")
    arguments = parse_with_settings(parser)

    from lightning.pytorch.utilities import rank_zero_only  # torch is not imported for --help

    from baa.evaluation.checkpoint import evaluate

    keep_libraries_quiet()
    result = evaluate(
        model_path(arguments.checkpoint),
        arguments.settings,
        split=arguments.split,
        out=arguments.out,
        compare=arguments.compare_readings,
        against=arguments.against,
    )
    rank_zero_only(_tell)(arguments.out, result)


def _tell(out: Path, result: dict[str, Any]) -> None:
    for stage, metrics in result.items():
        print(f"{stage}:")
        for name, value in metrics.items():
            if name.endswith(TRIED):
                continue
            shown = [round(edge, 3) for edge in value] if isinstance(value, list) else round(value, 3)
            print(f"  {name} {shown}")
    print(f"written to {out}")


if __name__ == "__main__":
    run_command(main)
