"""Measure baa's speed, side by side with its limits and its peers: `python -m baa.bench NAME [--json F]`."""

from pathlib import Path

from baa.cli import command_parser, keep_libraries_quiet, run_command
from baa.errors import InputError

EPILOG = """\
names
  crops    images to both crops, against bare forwards and against pytorch-grad-cam with OpenCV
  step     a training step with crops cut live, and from remembered boxes (or one of them: step-live, step-boxes)
  loader   an epoch of batches from the cache, against decoding PNGs each epoch; building the cache (or that alone: cache)
  start    help, a config error, the first training step
  predict  files to months, boxes and a table, against the networks alone
  ddp      two processes with a thread each, against one
  growth   time and memory with 100, 1,000 and 10,000 cases (predict: 100,000): slopes in a log-log plot; of cache, loader,
           crops, step and predict (or one of them: growth-cache, ...)
  all      each of these, in this order

Sides of a comparison run in turns, in one process or one after the other: only the quotients mean anything. The spread is
the lowest and the highest quotient of the rounds. Peers come with `pip install -e '.[bench]'`.

examples
  python -m baa.bench crops
  python -m baa.bench loader --deeplasia ~/Deeplasia
  python -m baa.bench all --json speed.json --figure growth.png --radiographs boneage-training-dataset.tar
"""

NAMES = ("crops", "step", "loader", "start", "predict", "ddp", "growth")
GROWING = {f"growth-{part}": part for part in ("cache", "loader", "crops", "step", "predict")}
PARTS = {"cache": "loader", "step-live": "step", "step-boxes": "step", **dict.fromkeys(GROWING, "growth")}
"""Rows that are measured with others, and the benchmark that measures them."""


def main() -> None:
    """Parse, measure, print each row as it comes."""
    parser = command_parser("bench", "Measure baa's speed against its limits and its peers.", EPILOG)
    parser.add_argument("name", choices=(*NAMES, *PARTS, "all"), metavar="NAME", help="what to measure, see below")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the rows to a file")
    parser.add_argument("--figure", type=Path, metavar="F", help="growth: also draw it, a PNG")
    parser.add_argument(
        "--radiographs", type=Path, metavar="DIR", help="growth: a folder or tar of radiographs to grow on besides phantoms"
    )
    parser.add_argument(
        "--deeplasia", type=Path, metavar="DIR", help="loader: a checkout of github.com/aimi-bonn/Deeplasia to race"
    )
    arguments = parser.parse_args()
    for option, path in (("--json", arguments.json), ("--figure", arguments.figure)):
        if path and not path.parent.is_dir():
            raise InputError(f"{option}: {path.parent} is not a folder; make it, or give another")
    for option, path in (("--radiographs", arguments.radiographs), ("--deeplasia", arguments.deeplasia)):
        if path and not path.exists():
            raise InputError(f"{option}: {path} is not there")

    from baa.atomic_io import write_whole
    from baa.benchmarks.table import HEAD, as_json, as_line, benchmarks  # torch is not imported for --help
    from baa.machine import keep_freed_memory

    keep_libraries_quiet()
    keep_freed_memory()
    known = benchmarks(
        deeplasia=arguments.deeplasia,
        radiographs=arguments.radiographs,
        figure=arguments.figure,
        parts=[GROWING[arguments.name]] if arguments.name in GROWING else tuple(GROWING.values()),
    )
    rows = []
    print(HEAD)
    for name in NAMES if arguments.name == "all" else (PARTS.get(arguments.name, arguments.name),):
        for row in known[name]():
            if arguments.name not in PARTS or row.name.startswith(arguments.name):
                print(as_line(row), flush=True)
                rows.append(row)
    if arguments.json:
        write_whole(arguments.json, as_json(rows))


if __name__ == "__main__":
    run_command(main)
