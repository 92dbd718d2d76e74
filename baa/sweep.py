"""Run a W&B sweep file on this machine, with no account and no network: `python -m baa.sweep FILE --count N`."""

import argparse
import warnings
from pathlib import Path

from baa.errors import InputError, run_command

EPILOG = """\
what it does
  Reads the same file that `wandb sweep` takes: what is searched, by which method (grid, random, bayes), which trials end early.
  The first trial has the config's own settings, to compare with (not of a grid). Each trial is a `baa.fit` of its own.
  Run the same command again after an interruption: finished trials are kept, a half-trained one goes on where it was stopped.

what it writes, in runs/sweep-NAME/
  trials.csv        a row a trial, best first
  parallel.png      what was tried and what it gave; importance.png: which setting mattered
  trial-NNN.log     what a trial said
  trials.journal    the study, Optuna's

examples
  python -m baa.sweep sweeps/fusion.yaml --count 12
  python -m baa.sweep sweeps/fusion.yaml --count 30 --workers 4 --out runs/sweep-few data.limit=300
  wandb sync runs/fusion/*/estimator/wandb/offline-run-*     upload the trials later

with an account
  wandb sweep sweeps/fusion.yaml, then wandb agent ID on as many machines as there are
"""


def main() -> None:
    """Parse, search, print the table."""
    parser = argparse.ArgumentParser(
        "python -m baa.sweep",
        description="Search settings as a W&B sweep file says, without W&B.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a W&B sweep file, such as sweeps/fusion.yaml")
    parser.add_argument("--count", type=int, required=True, metavar="N", help="trials in all, with those already finished")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="trials at the same time (default: 1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the sweep (default: runs/sweep-NAME)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is proposed (default: 0)")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings that go over the sweep file's")
    arguments, more = parser.parse_known_args()
    if arguments.count < 1 or arguments.workers < 1:
        raise InputError("--count and --workers take 1 or more")

    from baa.search.results import results_table, write_results
    from baa.search.study import Study  # neither Optuna nor torch is imported for --help
    from baa.search.sweepfile import read_sweep

    warnings.filterwarnings("ignore", module=r"optuna|lightning|captum|kornia|torch")
    sweep = read_sweep(arguments.file)
    folder = arguments.out or Path("runs") / f"sweep-{arguments.file.stem}"
    study = Study(sweep, folder, [*arguments.settings, *more], arguments.seed)
    try:
        study.run(arguments.count, arguments.workers)
    finally:
        write_results(study.optuna, sweep.metric, folder)
    print(results_table(study.optuna, sweep.metric).to_string(index=False))
    print(f"written to {folder}")


if __name__ == "__main__":
    run_command(main)
