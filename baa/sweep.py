"""Run a W&B sweep file on this machine, without a W&B account or network: `python -m baa.sweep FILE --count N`."""

from pathlib import Path

from baa.cli import at_least, command_parser, keep_libraries_quiet, parse_with_settings, run_command, settings_argument

EPILOG = """\
what it does
  Reads the format of `wandb sweep`: search space, method (grid, random, bayes) and early termination.
  Each trial is a separate `baa.fit`. The first trial uses the config's own settings as a baseline, except in a grid.
  Run the same command again to resume. Finished trials are kept. An interrupted trial continues where it stopped.

what it writes, in runs/sweep-NAME/
  trials.csv        one row per trial, best first
  parallel.png      settings and metric of every trial
  importance.png    importance of each setting
  trial-NNN.log     output of a trial
  trials.journal    the Optuna study

examples (sweep files in sweeps/ read the folder of the data from RSNA)
  RSNA=/data/rsna python -m baa.sweep sweeps/fusion.yaml --count 12
  RSNA=/data/rsna python -m baa.sweep sweeps/fusion.yaml --count 30 --workers 4 --out runs/sweep-few data.limit=300
  wandb sync runs/fusion/*/estimator/wandb/offline-run-*     upload the trials later

with a W&B account
  Run `wandb sweep sweeps/fusion.yaml`. Run the `wandb agent` command that it prints on any number of machines.
"""


def main() -> None:
    """Parse the command line, run the trials, and print the table."""
    parser = command_parser("sweep", "Run the search of a W&B sweep file without W&B.", EPILOG)
    parser.add_argument("file", type=Path, metavar="FILE", help="a W&B sweep file, such as sweeps/fusion.yaml")
    parser.add_argument(
        "--count", type=at_least(1), required=True, metavar="N", help="total number of trials, finished ones included"
    )
    parser.add_argument("--workers", type=at_least(1), default=1, metavar="N", help="trials at the same time (default: 1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the sweep (default: runs/sweep-NAME)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the search (default: 0)")
    settings_argument(parser, over="the sweep file")
    arguments = parse_with_settings(parser)

    from baa.search.results import best_model, results_table, write_results
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
    if model := best_model(study.optuna):
        print(f"best model: {model}")
    print(f"written to {folder}")


if __name__ == "__main__":
    run_command(main)
