"""Run a W&B sweep file on this machine, with no account and no network: `python -m baa.sweep FILE --count N`."""

from pathlib import Path

from baa.cli import at_least, command_parser, keep_libraries_quiet, parse_with_settings, run_command, settings_argument

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
  wandb sweep sweeps/fusion.yaml, then the `wandb agent` line that it prints, on as many machines as there are
"""


def main() -> None:
    """Parse, search, print the table."""
    parser = command_parser("sweep", "Search settings as a W&B sweep file says, without W&B.", EPILOG)
    parser.add_argument("file", type=Path, metavar="FILE", help="a W&B sweep file, such as sweeps/fusion.yaml")
    parser.add_argument(
        "--count", type=at_least(1), required=True, metavar="N", help="trials in all, with those already finished"
    )
    parser.add_argument("--workers", type=at_least(1), default=1, metavar="N", help="trials at the same time (default: 1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the sweep (default: runs/sweep-NAME)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is proposed (default: 0)")
    settings_argument(parser, over="the sweep file's")
    arguments = parse_with_settings(parser)

    from baa.search.results import results_table, write_results
    from baa.search.study import Study  # neither Optuna nor torch is imported for --help
    from baa.search.sweepfile import read_sweep

    keep_libraries_quiet()
    sweep = read_sweep(arguments.file)
    folder = arguments.out or Path("runs") / f"sweep-{arguments.file.stem}"
    study = Study(sweep, folder, arguments.settings, arguments.seed)
    try:
        study.run(arguments.count, arguments.workers)
    finally:
        write_results(study.optuna, sweep.metric, folder)
    print(results_table(study.optuna, sweep.metric).to_string(index=False))
    print(f"written to {folder}")


if __name__ == "__main__":
    run_command(main)
