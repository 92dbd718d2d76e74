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
  ddp      two processes with a thread each, against one
  all      each of these

Sides of a comparison run in turns, in one process or one after the other: only the quotients mean anything. The spread is
the lowest and the highest quotient of the rounds. Peers come with `pip install 'baa[bench]'`.

examples
  python -m baa.bench crops
  python -m baa.bench all --json speed.json
"""


def main() -> None:
    """Parse, measure, print a table."""
    parser = argparse.ArgumentParser(
        "python -m baa.bench",
        description="Measure baa's speed against its limits and its peers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=("crops", "step", "loader", "start", "ddp", "all"), help="what to measure")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the rows to a file")
    arguments = parser.parse_args()

    from baa.benchmarks.table import as_json, as_text, measure  # torch is not imported for --help

    warnings.filterwarnings("ignore", module=r"lightning|captum|kornia|torch")
    rows = measure(arguments.name)
    print(as_text(rows))
    if arguments.json:
        arguments.json.write_text(as_json(rows))


if __name__ == "__main__":
    run_command(main)
