"""Train the stages of a config, one after the other: `python -m baa.fit --config conf/NAME.yaml [key=value ...]`."""

from pathlib import Path
from typing import Any

from baa.cli import command_parser, keep_libraries_quiet, parse_with_settings, run_command, settings_argument
from baa.config.load import describe_settings, load
from baa.config.schema import Config

EPILOG = """\
what it does
  Trains the config's stages in order; each takes over the best checkpoint of the one before:
    locator     the whole radiograph to an age; its heat maps are where the crops come from
    estimator   two crops and the sex to an age in months
    joint       both together, from the estimator's checkpoint; a stage to ask for: stages=[locator,estimator,joint]
  Run the same command again to resume after an interruption: finished stages are kept, a half-trained one goes on at the
  batch where Ctrl-C, SIGTERM or SIGUSR1 stopped it or, after a kill, at its last whole epoch. On as many processes as
  before it comes to the result of an unbroken run; on others it is refused.

what it writes, in runs/NAME/
  config.yaml            all settings of the run
  metrics.json           {stage: {"test/mae": months, "test/mae_ci": [low, high], ...}}
  refused.csv            bad rows and images that stopped it; skipped.csv: that were set aside, with data.on_bad=skip
  inverted.csv           bright backgrounds that were turned dark
  STAGE/best.ckpt        the lowest validation MAE; enough by itself for `python -m baa.evaluate`
  STAGE/bundle/          the same to share: weights in half precision, and a card that says what they are
  STAGE/last.ckpt        where a resumed run goes on
  STAGE/metrics.csv      one row an epoch
  STAGE/predictions.csv  of the test part: id, sex, true and predicted months, intervals, boxes
  STAGE/*.png            heat maps with boxes, predicted against true age, learning curve

examples
  python -m baa.fit --config conf/quickstart.yaml
  python -m baa.fit --config conf/rsna.yaml data.root=/data/rsna
  python -m baa.fit --config conf/rsna.yaml name=ours data.source=table data.table.file=ours.csv data.table.months=age_months
  python -m baa.fit --config conf/finetune.yaml name=tuned data.table.file=ours.csv data.root=images
  python -m baa.fit --config conf/rsna.yaml name=trial estimator.fit.epochs=5 data.limit=100

settings and their defaults (baa/schema.py says what each means)
"""


def main() -> None:
    """Parse, train, print where the results are."""
    parser = command_parser("fit", "Train a bone age estimator that finds its own regions.", EPILOG + describe_settings())
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="a YAML file, such as conf/rsna.yaml")
    settings_argument(parser, over="the file's")
    arguments = parse_with_settings(parser)
    config = load(arguments.config, arguments.settings)

    from lightning.pytorch.utilities import rank_zero_only  # torch is not imported for --help, nor for an error in a config

    from baa.training.run import run

    keep_libraries_quiet()
    rank_zero_only(_tell)(config, run(config))


def _tell(config: Config, results: dict[str, Any]) -> None:
    for stage, metrics in results.items():
        if "test/mae" not in metrics:
            print(f"{stage}: not tested, the test part has no two radiographs of known age")
            continue
        low, high = metrics["test/mae_ci"]
        print(f"{stage}: test MAE {metrics['test/mae']:.2f} months (95 % {low:.2f} to {high:.2f})", end="")
        pointing = metrics.get("test/carpal_pointing")
        print("" if pointing is None else f", carpal pointing game {pointing:.2f}")
    print(f"numbers: {config.folder / 'metrics.json'}")
    print(f"figures: {', '.join(str(file) for file in sorted(config.folder.glob('*/*.png')))}")


if __name__ == "__main__":
    run_command(main)
