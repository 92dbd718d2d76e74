"""Estimate bone ages from image files: `python -m baa.predict INPUT... [--sex S | --table T] [--checkpoint F] [--out DIR]`."""

import argparse
import sys
from pathlib import Path

from baa.cli import at_least, checkpoint_option, command_parser, coverage_option, keep_libraries_quiet, run_command
from baa.machine import usable_cores
from baa.model_card import model_path

EPILOG = """\
what it writes, in DIR
  predictions.csv    a row a file:
    file
    sex, sex_from        the sex, and whose word that is: option, table or file
    age_months           the chronological age, if known
    ahead_months, ahead_deviations
                         how far the bones are ahead of it, also in standard deviations of Greulich and Pyle's
    bone_age_months, lower_months, upper_months, bone_age
                         the answer, its interval, and the answer in years and months
    disagreement_months  between readings of the file, if asked for
    carpal_x0 ... hand_y1
                         both boxes in pixels of the file
    mirrored             yes or no where that is sure: whether the hand lay the other way round than most that were trained
                         on (it is then turned over before it is read)
    strangeness          above 0 where no whole upright hand is recognised
    warnings
    error                why a file could not be read (the others are answered all the same; exit code 1)

  overlays/NAME.png  of each file: the radiograph, where the network looked, both boxes, the answer

whose sex
  Without --sex or --table that which a DICOM file tells, else unknown. An unknown sex is answered for too, much less well.

many files
  Under torchrun or srun each process reads its share (docker/slurm/predict.sbatch). Stopped and started again, the same
  command reads only what is missing: DIR/parts/ holds what is done. (After a job of several processes it may be deleted.)

examples
  python -m baa.predict hand.png --sex female
  python -m baa.predict 'clinic/**/*.dcm' --table known.csv --out read
  python -m baa.predict --checkpoint runs/rsna/estimator/bundle girls --sex female --out girls_read
"""


def main() -> None:
    """Parse, predict, print where the table is."""
    parser = command_parser("predict", "Read the bone age of hand radiographs. A research tool, not a medical device.", EPILOG)
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="PNG, JPEG, TIFF or DICOM files, folders, patterns"
    )
    checkpoint_option(parser)
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--sex", choices=("male", "female", "unknown"), help="of all of them")
    known.add_argument(
        "--table",
        type=Path,
        metavar="T",
        help="a CSV, Excel or Parquet file: file, sex and, if known, age_months, the chronological age",
    )
    coverage_option(parser)
    parser.add_argument("--out", type=Path, default=Path("predicted"), metavar="DIR", help="default: predicted")
    parser.add_argument(
        "--overlays", action=argparse.BooleanOptionalAction, default=True, help="draw a picture of each answer (default: yes)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse, instead of answering with a warning, what is not taken for a hand"
    )
    parser.add_argument(
        "--disagreement", action="store_true", help="say how far apart the ages are of each film mirrored and turned a little"
    )
    parser.add_argument(
        "--batch-size",
        type=at_least(1),
        default=8,
        metavar="N",
        help="radiographs at a time (default: 8; more for a GPU)",
    )
    parser.add_argument(
        "--workers",
        type=at_least(0),
        default=max(1, usable_cores() // 2),
        metavar="N",
        help="processes that decode (default: half the cores that this process may use)",
    )
    arguments = parser.parse_args()

    from baa.inference.inputs import Asked, find_images, with_table  # torch is not imported for --help
    from baa.inference.predict import OVERLAYS, predict
    from baa.patient import Sex

    keep_libraries_quiet()
    files = find_images(arguments.inputs, drawn=arguments.out / OVERLAYS)
    if arguments.table:
        asked, unused = with_table(files, arguments.table)
        if unused:
            print(f"{unused} rows of {arguments.table} name none of these files")
    else:
        asked = [Asked(file, arguments.sex and Sex[arguments.sex.upper()], by="option") for file in files]
    count, unread = predict(
        model_path(arguments.checkpoint),
        asked,
        arguments.out,
        coverage=arguments.coverage,
        overlays=arguments.overlays,
        strict=arguments.strict,
        disagree=arguments.disagreement,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
    )
    if unread is None:
        print(f"this process's share of {count} files is done; the last to finish writes {arguments.out / 'predictions.csv'}")
        return
    print(f"{count} files: {arguments.out / 'predictions.csv'}")
    if unread:
        print(f"{unread} have no answer, see the column error", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
