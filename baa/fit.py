"""Train the stages of a config in order: `python -m baa.fit --config conf/NAME.yaml [key=value ...]`."""

from pathlib import Path
from typing import Any

from baa.cli import command_parser, help_option, keep_libraries_quiet, parse_with_settings, run_command, settings_argument
from baa.config.load import load, replaced_by_weights
from baa.config.schema import Config

EPILOG = """\
what it does
  Trains the stages of the config in order. Each stage starts from the best checkpoint of the stage before:
    locator     whole radiograph to age; its heat maps give the regions
    estimator   crops of the regions, and sex, to age in months
    joint       both networks together, from the estimator's checkpoint
  Run the same command again to resume. Finished stages are kept. A stage continues at the batch where Ctrl-C, SIGTERM, SIGUSR1
  or SIGUSR2 stopped it; after a kill, at its last complete epoch. The number of processes must stay the same.

what it writes, in runs/NAME/
  config.yaml            all settings of the run
  cases.csv              id, split, age, sex and digests of each case; a later start with other cases is refused
  metrics.json           {stage: {"test/mae": months, "test/mae_ci": [low, high], ...}}, see Metrics in conf/README.md
  refused.csv            bad rows and images that stopped the run; skipped.csv with data.on_bad=skip
  inverted.csv           radiographs with a bright background, which were inverted
  STAGE/best.ckpt        complete checkpoint with the lowest validation MAE, for `python -m baa.evaluate`
  STAGE/bundle/          the same model to share: weights in half precision and a model card
  STAGE/last.ckpt        checkpoint from which a run resumes
  STAGE/metrics.csv      one row per epoch
  STAGE/predictions.csv  test split: id, sex, true and predicted months, intervals, bounding boxes
  STAGE/validation.csv   the same of the validation split, without intervals
  STAGE/cost.json        core-hours, and hours from start to end
  STAGE/finished.json    digests of these files, which a later start compares
  STAGE/*.png            heat maps with bounding boxes, predicted against true age, learning curve

examples
  python -m baa.fit --config conf/quickstart.yaml
  python -m baa.fit --config conf/rsna.yaml data.root=/data/rsna estimator.fit.epochs=5
  python -m baa.fit --config conf/rsna.yaml --config ours.yaml     ours.yaml overrides conf/rsna.yaml, and names the run

settings (--help KEY explains one of them)
"""


def main() -> None:
    """Parse the command line, train, and print the results."""
    parser = command_parser("fit", "Train a bone age estimator that finds its own regions.", EPILOG)
    help_option(parser)
    what = "a YAML file, such as conf/rsna.yaml; with several, later files override earlier ones"
    parser.add_argument("--config", type=Path, action="append", required=True, metavar="FILE", help=what)
    settings_argument(parser, over="the config files")
    arguments = parse_with_settings(parser)
    config = load(arguments.config, arguments.settings)

    # torch is not imported for --help, nor for an error in a config
    from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

    from baa.training.run import run

    keep_libraries_quiet()
    for key, (given, taken) in replaced_by_weights(arguments.config, arguments.settings, config).items():
        rank_zero_info(
            f"{key}={taken}, not {given}: as weights={config.weights} has it; on the command line {key} overrides both"
        )
    rank_zero_only(_print_results)(config, run(config))


def _print_results(config: Config, results: dict[str, Any]) -> None:
    if config.trainer.fast_dev_run:
        return
    for stage, metrics in results.items():
        if "test/mae" not in metrics:
            print(f"{stage}: not tested; the test split has fewer than two radiographs of known age")
            continue
        low, high = metrics["test/mae_ci"]
        print(f"{stage}: test MAE {metrics['test/mae']:.2f} months (95 % {low:.2f} to {high:.2f})", end="")
        pointing = metrics.get("test/carpal_pointing")
        print("" if pointing is None else f", carpal point inside the annotated box: {pointing:.2f}")
    print(f"numbers: {config.folder / 'metrics.json'}")
    print(f"figures: {', '.join(str(file) for file in sorted(config.folder.glob('*/*.png')))}")


if __name__ == "__main__":
    run_command(main)
