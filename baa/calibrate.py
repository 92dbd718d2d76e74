"""Calibrate a model on local radiographs: `python -m baa.calibrate --table T --out DIR [--checkpoint B] [key=value ...]`."""

from pathlib import Path

from baa.cli import (
    checkpoint_option,
    command_parser,
    keep_libraries_quiet,
    parse_with_settings,
    run_command,
    settings_argument,
)
from baa.model_card import model_path

EPILOG = """\
what it does
  Reads 30 or more radiographs with the ages of local readers, in months (else data.table.age_unit). Radiographs that the
  model has seen are left out. It learns a line per sex, shrunk to the identity, and new prediction intervals.
  Cross-validation measures the gain of the lines. Lines with a gain below its standard error are left out: the ages then
  stay the same. The networks do not change; conf/finetune.yaml trains them.

what it writes, in DIR
  card.json, weights.safetensors   a complete bundle: give DIR as --checkpoint to predict, evaluate and export
  evaluated/                       the ages before calibration, in the files of baa.evaluate

examples
  python -m baa.calibrate --table ours.csv --out ours
  python -m baa.calibrate --table ours.csv --images films --out ours data.table.image=file data.table.months=bone_age
  python -m baa.predict clinic --table known.csv --checkpoint ours
"""


def main() -> None:
    """Parse, calibrate, print what it gains."""
    parser = command_parser("calibrate", "Calibrate a model on local radiographs.", EPILOG)
    checkpoint_option(parser, "a bundle, such as runs/NAME/estimator/bundle")
    parser.add_argument(
        "--table", type=Path, required=True, metavar="T", help="a CSV, Excel or Parquet file with columns image, age, sex"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (default: the table's folder)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the new bundle")
    settings_argument(parser, over="the checkpoint's")
    arguments = parse_with_settings(parser)

    from baa.checkpoints.load import load_model  # torch is not imported for --help
    from baa.evaluation.local_calibration import calibrate_locally

    keep_libraries_quiet()
    bundle = model_path(arguments.checkpoint)
    images = arguments.images or arguments.table.parent
    source = ["data.source=table", f"data.table.file={arguments.table}", f"data.root={images}", *arguments.settings]
    fit = calibrate_locally(load_model(bundle), bundle, source, arguments.out)
    print(
        f"MAE {fit.mae_before:.2f} months before, {fit.mae_after:.2f} with a line per sex "
        f"(cross-validated, {len(fit.months)} cases)"
    )
    if fit.used:
        for sex, line in fit.lines.items():
            print(f"  {sex.name.lower()}: {line.shift:+.1f} months at 10 years, slope {line.slope:.3f}")
    else:
        print("  the gain of the lines is not above its standard error: ages do not change, intervals are local")
    print(f"bundle: {arguments.out}")


if __name__ == "__main__":
    run_command(main)
