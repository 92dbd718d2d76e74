"""Measure baa's speed, side by side with its limits and its peers: `python -m baa.bench NAME [--json F]`."""

import argparse
import warnings
from pathlib import Path

from baa.errors import run_command

EPILOG = """\
names
  crops    images to both crops, against bare forwards and against pytorch-grad-cam with OpenCV
  step     a training step with crops cut live, and from remembered boxes
  loader   an epoch of batches from the cache, against decoding PNGs each epoch; building the cache
  start    help, a config error, the first training step
  predict  files to months, boxes and a table, against the networks alone
  ddp      two processes with a thread each, against one
  growth   time and memory of each part with 100, 1,000 and 10,000 cases (predict: 100,000): slopes in a log-log plot
  all      each of these

Sides of a comparison run in turns, in one process or one after the other: only the quotients mean anything. The spread is
the lowest and the highest quotient of the rounds. Peers come with `pip install 'baa[bench]'`.

examples
  python -m baa.bench crops
  python -m baa.bench loader --deeplasia ~/Deeplasia
  python -m baa.bench all --json speed.json --figure growth.png
"""


NAMES = ("crops", "step", "loader", "start", "predict", "ddp", "growth")


def main() -> None:
    """Parse, measure, print a table."""
    parser = argparse.ArgumentParser(
        "python -m baa.bench",
        description="Measure baa's speed against its limits and its peers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=(*NAMES, "all"), help="what to measure")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the rows to a file")
    parser.add_argument("--figure", type=Path, metavar="F", help="growth: also draw it, a PNG")
    parser.add_argument(
        "--radiographs", type=Path, metavar="DIR", help="growth: a folder or tar of radiographs to grow on besides phantoms"
    )
    parser.add_argument(
        "--deeplasia", type=Path, metavar="DIR", help="loader: a checkout of github.com/aimi-bonn/Deeplasia to race"
    )
    arguments = parser.parse_args()

    from baa.benchmarks.table import as_json, as_text, measure  # torch is not imported for --help

    warnings.filterwarnings("ignore", module=r"lightning|captum|kornia|torch")
    rows = measure(arguments.name, deeplasia=arguments.deeplasia, radiographs=arguments.radiographs, figure=arguments.figure)
    print(as_text(rows))
    if arguments.json:
        arguments.json.write_text(as_json(rows))


if __name__ == "__main__":
    run_command(main)
