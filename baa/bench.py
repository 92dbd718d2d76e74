"""Measure the speed of baa against limits and other software: `python -m baa.bench NAME... [--json F]`."""

from pathlib import Path

from baa.cli import command_parser, keep_libraries_quiet, run_command
from baa.errors import InputError

EPILOG = """\
names
  crops    both crops of each image, against single forward passes and against pytorch-grad-cam with OpenCV; both heat maps of
           middle layers (crops-attention; crops-attention-flip with mirror images)
  step     training step with live crops (step-live) and with crops at cached boxes (step-boxes)
  loader   epoch of batches from the cache, against decoding PNG files in each epoch; building the cache (cache)
  decoder  reading PNG files in the process that may die, against decoding them in this one
  start    time to the help text, to a config error and to the first training step
  counts   kernels of a training step on a simulated GPU, and how often it waits for one; nothing is timed
  predict  image files to a table of ages and boxes, against the networks only; the packaged model with input check, overlays
  ddp      two processes with one thread each, against one process
  growth   time and memory with 100, 1,000 and 10,000 cases (predict: also 100,000), as slopes in a log-log plot:
           growth-cache, growth-loader, growth-crops, growth-step, growth-predict
  all      all of the above, in this order
  A name in parentheses measures this row only; so does a name of growth.

what it prints
  The compared sides take turns. Only their ratios are meaningful, because the speed of a machine drifts. The table shows the
  median ratio; the spread is the lowest and the highest of all rounds. Other software: pip install -e '.[bench]'

examples
  python -m baa.bench crops step
  python -m baa.bench loader --deeplasia ~/Deeplasia
  python -m baa.bench all --json speed.json --figure growth.png --radiographs boneage-training-dataset.tar
"""

NAMES = ("crops", "step", "loader", "decoder", "start", "counts", "predict", "ddp", "growth")
GROWING = {f"growth-{part}": part for part in ("cache", "loader", "crops", "step", "predict")}
PARTS = {
    "crops-attention": "crops",
    "cache": "loader",
    "step-live": "step",
    "step-boxes": "step",
    **dict.fromkeys(GROWING, "growth"),
}
"""Names of single rows, and the benchmark that measures each."""


def main() -> None:
    """Parse the command line, measure, and print each row when it is done."""
    parser = command_parser("bench", "Measure the speed of baa against limits and other software.", EPILOG)
    parser.add_argument(
        "names", nargs="+", choices=(*NAMES, *PARTS, "all"), metavar="NAME", help="benchmarks or rows, see below"
    )
    parser.add_argument("--json", type=Path, metavar="F", help="also write the rows to a file")
    parser.add_argument("--figure", type=Path, metavar="F", help="growth: also write a plot (PNG)")
    parser.add_argument(
        "--radiographs", type=Path, metavar="DIR", help="growth: folder or tar of radiographs, measured after the phantoms"
    )
    parser.add_argument(
        "--deeplasia", type=Path, metavar="DIR", help="loader: checkout of github.com/aimi-bonn/Deeplasia to compare with"
    )
    arguments = parser.parse_args()
    for option, path in (("--json", arguments.json), ("--figure", arguments.figure)):
        if path and not path.parent.is_dir():
            raise InputError(f"{option}: {path.parent} is not a folder; create it, or give another")
    for option, path in (("--radiographs", arguments.radiographs), ("--deeplasia", arguments.deeplasia)):
        if path and not path.exists():
            raise InputError(f"{option}: {path} does not exist")

    from baa.atomic_io import write_atomic
    from baa.benchmarks.table import HEAD, as_json, as_line, benchmarks  # torch is not imported for --help
    from baa.machine import keep_freed_memory

    keep_libraries_quiet()
    keep_freed_memory()
    names = NAMES if "all" in arguments.names else tuple(arguments.names)
    known = benchmarks(
        deeplasia=arguments.deeplasia,
        radiographs=arguments.radiographs,
        figure=arguments.figure,
        parts=[GROWING[name] for name in names if name in GROWING] or tuple(GROWING.values()),
    )
    rows = []
    print(HEAD)
    for benchmark in dict.fromkeys(PARTS.get(name, name) for name in names):
        for row in known[benchmark]():
            if benchmark in names or row.name.startswith(tuple(names)):
                print(as_line(row), flush=True)
                rows.append(row)
    if arguments.json:
        write_atomic(arguments.json, as_json(rows))


if __name__ == "__main__":
    run_command(main)
