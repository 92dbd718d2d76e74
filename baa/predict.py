"""Estimate bone ages from image files: `python -m baa.predict INPUT... [--sex S | --table T] [--checkpoint F] [--out DIR]`."""

import argparse
import sys
from pathlib import Path

from baa.cli import at_least, checkpoint_option, command_parser, coverage_option, keep_libraries_quiet, run_command
from baa.machine import usable_cores

EPILOG = """\
what it writes, in DIR
  predictions.csv    one row per file:
    file
    sex, sex_source      the sex, and where it comes from: option, table or file
    age_months           the chronological age, if known
    ahead_months, ahead_deviations
                         bone age minus chronological age; the same in standard deviations of Greulich and Pyle
    bone_age_months, lower_months, upper_months, bone_age
                         the bone age, its prediction interval, and the bone age in years and months; "or more" and "or
                         less" where the model does not tell ages beyond apart
    disagreement_months  range of the ages of slightly moved views, with --disagreement
    carpal_months, carpal_lower_months, carpal_upper_months, hand_months ...
                         the age that each stream gives alone, and its interval; less accurate than both together
    streams_differ_months
                         age of the carpal stream minus that of the hand; a warning where 95 % of hands differ less
    carpal_x0 ... hand_y1
                         both bounding boxes in pixels of the file
    mirrored             yes or no, empty if unclear: whether the hand is mirrored (it is then flipped before it is read)
    ood_score            above 0: not recognized as one whole upright hand
    warnings
    model                name, version and digest of the model
    error                why a file could not be read (all others are predicted; exit code 1)
                         Control characters in names are escaped; a name that a spreadsheet would take for a formula begins
                         with ./

  left_out.csv       files in the given folders that are no images, and rows of --table that name no file, with the reason

  overlays/NAME.png  the radiograph with both boxes, the heat maps and the prediction

sex
  --sex applies to every file. --table gives sex and age per file, by path, by the end of the path, or by name; capitals,
  Unicode form and path separators may differ where that is unambiguous. Otherwise the DICOM header is used, else the sex is
  unknown. Predictions without sex are much less accurate.

many files
  Under torchrun or srun each process reads its share (docker/slurm/predict.sbatch). Run the same command again after an
  interruption: it reads only what is missing. DIR/parts/ holds finished parts; after a job of several processes delete it.

examples
  python -m baa.predict hand.png --sex female
  python -m baa.predict 'clinic/**/*.dcm' --table known.csv --out read
  python -m baa.predict --checkpoint runs/rsna/estimator/bundle girls --sex female --out girls_read
"""

SHOWN = 10
"""How many of the files and rows without a prediction are printed."""


def main() -> None:
    """Parse, predict, print where the table is."""
    parser = command_parser(
        "predict", "Estimate bone ages from hand radiographs. A research tool, not a medical device.", EPILOG
    )
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="PNG, JPEG, TIFF or DICOM files, folders, patterns"
    )
    checkpoint_option(parser)
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
    parser.add_argument("--strict", action="store_true", help="refuse files that are not recognized as one whole upright hand")
    parser.add_argument(
        "--disagreement", action="store_true", help="also read each file mirrored and slightly rotated, and report the range"
    )
    parser.add_argument(
        "--batch-size", type=at_least(1), default=8, metavar="N", help="radiographs at a time (default: 8; more for a GPU)"
    )
    parser.add_argument(
        "--workers",
        type=at_least(0),
        default=max(1, usable_cores() // 2),
        metavar="N",
        help="processes that decode files (default: half the usable cores)",
    )
    arguments = parser.parse_args()

    from baa.api import load_model  # torch is not imported for --help
    from baa.inference.inputs import InputFile, with_table
    from baa.inference.listing import find_images, write_left_out
    from baa.inference.predict import LEFT_OUT, OVERLAYS, TABLE
    from baa.patient import Sex

    keep_libraries_quiet()
    files, left_out = find_images(arguments.inputs, drawn=arguments.out / OVERLAYS)
    if arguments.table:
        inputs, rows_left_out = with_table(files, arguments.table)
        left_out += rows_left_out
    else:
        inputs = [InputFile(file, arguments.sex and Sex[arguments.sex.upper()], sex_source="option") for file in files]
    model = load_model(arguments.checkpoint, batch_size=arguments.batch_size, coverage=arguments.coverage)
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
        print(f"this process has read its share of {count} files; the last one to finish writes {arguments.out / TABLE}")
        return
    print(f"{count} files: {arguments.out / TABLE}")
    if failed:
        print(f"{failed} files have no prediction, see the column error", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
