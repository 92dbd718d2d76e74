"""Write a model for other runtimes: `python -m baa.export --out model.onnx [--checkpoint F]`."""

from pathlib import Path

from baa.cli import checkpoint_option, command_parser, coverage_option, keep_libraries_quiet, run_command
from baa.model_card import model_path

EPILOG = """\
what it writes
  FILE          one graph, from square radiographs and sexes to months, intervals, boxes and heat maps; by the end of its name
                ONNX (.onnx) or torch.export (.pt2). It is run on phantoms, and kept only if it answers as torch does.
  FILE's .json  what it takes and gives, its limits and licences

examples
  python -m baa.export --out model.onnx
  python -m baa.export --checkpoint runs/rsna/estimator/bundle --out model.pt2
"""


def main() -> None:
    """Parse, export, print how far the graph is from torch."""
    parser = command_parser("export", "Write the whole path of a model, image and sex in, answer out, as one graph.", EPILOG)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .onnx or .pt2")
    checkpoint_option(parser)
    coverage_option(parser)
    arguments = parser.parse_args()

    from baa.inference.export import export  # torch is not imported for --help

    keep_libraries_quiet()
    apart = export(model_path(arguments.checkpoint), arguments.out, arguments.coverage)
    print(f"{arguments.out}: {apart['months']:.4f} months and {apart['pixels']:.3f} pixels of boxes off torch, at most")


if __name__ == "__main__":
    run_command(main)
