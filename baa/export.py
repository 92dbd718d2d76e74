"""Write a model for other runtimes: `python -m baa.export --out model.onnx [--checkpoint F]`."""

from pathlib import Path

from baa.cli import command_parser, coverage_option, keep_libraries_quiet, models_option, run_command

EPILOG = """\
what it writes
  FILE           one graph, from square radiographs and sexes to months, intervals, bounding boxes and heat maps: ONNX (.onnx)
                 or torch.export (.pt2), by its suffix. It is tested on phantoms, and kept only if it agrees with torch.
  FILE's .json   its inputs and outputs, limits and licenses
  preprocess.py  turns an image file into the input of the graph, with NumPy and Pillow

examples
  python -m baa.export --out model.onnx
  python -m baa.export --checkpoint ours --coverage 0.8 --out model.pt2
  python -m baa.export --checkpoint runs/folds/*/estimator/best.ckpt --out ensemble.onnx
"""


def main() -> None:
    """Parse, export, print the difference between graph and torch."""
    parser = command_parser("export", "Write the two-stage model as one graph for other runtimes.", EPILOG)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .onnx or .pt2")
    models_option(parser)
    coverage_option(parser)
    arguments = parser.parse_args()

    from baa.api import load_model  # torch is not imported for --help

    keep_libraries_quiet()
    model = load_model(arguments.checkpoint, weights=arguments.weights, device="cpu", coverage=arguments.coverage)
    apart = model.export(arguments.out)
    print(f"{arguments.out}: at most {apart['months']:.4f} months and {apart['pixels']:.3f} px of boxes from torch")


if __name__ == "__main__":
    run_command(main)
