"""Estimate bone ages from image files: `python -m baa.predict INPUT... [--sex S | --table T] [--checkpoint F] [--out DIR]`."""

import argparse
import sys
from pathlib import Path

from baa.cli import (
    at_least,
    command_parser,
    coverage_option,
    keep_libraries_quiet,
    models_option,
    run_command,
    take_models,
)
from baa.machine import usable_cores

EPILOG = """\
what it writes, in DIR
  predictions.csv     one row per file (baa/inference/README.md explains each column):
    file, age_months, sex, sex_source     file, chronological age, sex and its origin: option, table or file
    bone_age_months, bone_age             the bone age; "or more" or "or less" at an end of the model's age scale
    lower_months, upper_months            its prediction interval
    ahead_months, ahead_deviations        bone age minus chronological age, in months and in SD of Greulich and Pyle
    disagreement_months                   range of the ages of slightly moved views, with --disagreement
    carpal_months ... hand_upper_months   age of each stream alone and its interval; less accurate than both together
    streams_differ_months                 age of the carpal stream minus age of the hand stream
    carpal_x0 ... hand_y1                 both bounding boxes, in pixels of the file
    mirrored, ood_score                   yes or no; above 0: not recognized as one whole upright hand
    warnings, error, model                error: why this file has no prediction (exit code 1; 2: the command cannot run)
  left_out.csv        files and table rows that were not read, with the reason
  overlays/NAME.png   the radiograph with both bounding boxes, the heat maps and the prediction

sex
  --sex applies to every file. --table gives sex and age per file: by path, by the end of a path, or by name. Otherwise the
  DICOM header is used, else the sex is unknown. Predictions without sex are much less accurate.

many files
  Run the same command again after an interruption: it reads only missing files. Under torchrun or srun each process reads
  its share (docker/slurm/predict.sbatch). DIR/parts/ holds finished parts; delete it afterwards.

examples
  python -m baa.predict hand.png --sex female
  python -m baa.predict 'clinic/**/*.dcm' --table known.csv --out read
  python -m baa.predict girls --sex female --checkpoint runs/fold0/estimator/bundle runs/fold1/estimator/bundle
"""

SHOWN = 10
"""How many of the files and rows that were not read are printed."""


def main() -> None:
    """Parse, predict, print where the table is."""
    parser = command_parser(
        "predict", "Estimate bone ages from hand radiographs. A research tool, not a medical device.", EPILOG
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="PNG, JPEG, TIFF, WebP, BMP, DICOM; folders, patterns")
    models_option(parser)
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--sex", choices=("male", "female", "unknown"), help="sex of all patients")
    known.add_argument(
        "--table",
        type=Path,
        metavar="T",
        help="a CSV, Excel or Parquet file with columns file, sex and optionally age_months, the chronological age",
    )
    coverage_option(parser)
    parser.add_argument("--out", type=Path, default=Path("predicted"), metavar="DIR", help="default: predicted")
    parser.add_argument(
        "--overlays", action=argparse.BooleanOptionalAction, default=True, help="draw a picture per file (default: yes)"
    )
    parser.add_argument("--strict", action="store_true", help="refuse images without a recognized hand or regions")
    parser.add_argument("--disagreement", action="store_true", help="also write the range of ages of slightly moved views")
    parser.add_argument(
        "--batch-size", type=at_least(1), default=8, metavar="N", help="radiographs at a time (default: 8; more for a GPU)"
    )
    parser.add_argument(
        "--workers",
        type=at_least(0),
        default=max(1, usable_cores() // 2),
        metavar="N",
        help="processes that decode files (default: half the cores)",
    )
    arguments = parser.parse_args()
    take_models(arguments, "inputs")
    if not arguments.inputs:
        parser.error("the following arguments are required: INPUT")

    from baa.api import load_model  # torch is not imported for --help
    from baa.inference.inputs import InputFile, with_table
    from baa.inference.listing import find_images, write_left_out
    from baa.inference.predict import LEFT_OUT, OVERLAYS, TABLE
    from baa.patient import Sex

    keep_libraries_quiet()
    files, left_out = find_images([Path(given) for given in arguments.inputs], drawn=arguments.out / OVERLAYS)
    if arguments.table:
        inputs, rows_left_out = with_table(files, arguments.table)
        left_out += rows_left_out
    else:
        inputs = [InputFile(file, arguments.sex and Sex[arguments.sex.upper()], sex_source="option") for file in files]
    how = {"batch_size": arguments.batch_size, "coverage": arguments.coverage}
    model = load_model(arguments.checkpoint, weights=arguments.weights, **how)
    print(*write_left_out(arguments.out / LEFT_OUT, left_out, SHOWN), sep="\n", end="\n" if left_out else "")
    count, failed = model.predict_files(
        inputs,
        arguments.out,
        workers=arguments.workers,
        overlays=arguments.overlays,
        strict=arguments.strict,
        disagree=arguments.disagreement,
    )
    if failed is None:
        print(f"this process has read its share of {count} files; the last process to finish writes {arguments.out / TABLE}")
        return
    print(f"{count} files: {arguments.out / TABLE}")
    if failed:
        print(f"{failed} files have no prediction, see the column error", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
