"""Write a model for other runtimes: `python -m baa.export --out model.onnx [--checkpoint F]`."""

import argparse
import warnings
from pathlib import Path

from baa.card import checkpoint_option, model_path
from baa.errors import run_command, share

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
    parser = argparse.ArgumentParser(
        "python -m baa.export",
        description="Write the whole path of a model, image and sex in, answer out, as one graph.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .onnx or .pt2")
    checkpoint_option(parser)
    parser.add_argument("--coverage", type=share, default=0.9, metavar="C", help="of the intervals (default: 0.9)")
    arguments = parser.parse_args()

    from baa.inference.exporting import export  # torch is not imported for --help

    warnings.filterwarnings("ignore", module=r"lightning|captum|kornia|torch")
    apart = export(model_path(arguments.checkpoint), arguments.out, arguments.coverage)
    print(f"{arguments.out}: {apart['months']:.4f} months and {apart['pixels']:.3f} pixels of boxes off torch, at most")


if __name__ == "__main__":
    run_command(main)
