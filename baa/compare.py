"""Compare finished runs: `python -m baa.compare runs/a runs/b ... --out DIR`."""

from pathlib import Path

from baa.cli import command_parser, keep_libraries_quiet, run_command

EPILOG = """\
what it reads
  Runs (runs/NAME), folders of runs, or folders of sweeps (runs/sweep-NAME, whose trials lie beside it). It takes the last
  finished stage of each run. Runs that are not finished are left out.

what it writes, in DIR
  runs.csv           one row per run
    cases, mae, mae_low, mae_high, rmse, bias, within_12, covered_90
                       of the test split, in months; the MAE with its bootstrap 95 % interval
    best_val_mae       the lowest validation MAE of all epochs
    core_hours, hours  what all stages cost: processor time of all processes, and time from start to end
    paired_cases, mae_difference, difference_low, difference_high
                       the MAE minus that of the first run, on the cases that both tested, with its paired 95 % interval;
                       empty if cases or labels differ
    then               every setting in which the runs differ
  compare.html       the same with figures, readable without a network
  out_of_fold.csv    if the runs are all folds of one cross-validation (data.split.folds): each case by the model that was not
                     trained on it, with an interval that is calibrated on the other folds
  out_of_fold.json   metrics of these predictions

examples
  python -m baa.compare runs/rsna runs/baseline --out compared
  python -m baa.compare runs/folds --out compared
  python -m baa.compare runs --out compared
"""


def main() -> None:
    """Parse, compare, print the table."""
    parser = command_parser("compare", "Compare finished runs.", EPILOG)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="runs, folders of runs, or folders of sweeps")
    parser.add_argument("--out", type=Path, default=Path("compared"), metavar="DIR", help="default: compared")
    arguments = parser.parse_args()

    from baa.evaluation.comparison import compare  # torch is not imported for --help

    keep_libraries_quiet()
    table, metrics = compare(arguments.runs, arguments.out)
    print(table.to_string(index=False, float_format="{:.2f}".format))
    for name in ("mae", "mae_ci", "covered_90"):
        if (key := f"out_of_fold/{name}") in metrics:
            print(key, metrics[key])
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    run_command(main)
