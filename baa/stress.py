"""Test how a model's ages change with the image: `python -m baa.stress --out DIR [--checkpoint F] [key=value ...]`."""

from pathlib import Path

from baa.cli import (
    command_parser,
    keep_libraries_quiet,
    models_option,
    parse_with_settings,
    run_command,
    settings_argument,
    split_option,
    take_models,
)
from baa.errors import InputError

EPILOG = """\
what it does
  Changes each radiograph of a split in some thirty ways that occur in practice: rotated, mirrored, shifted, scaled, squeezed,
  darker, brighter, inverted, blurred, noisy, compressed, coarse, with a marker, collimated. It reads each as a file is read:
  margins are cut, levels stretched, negatives inverted, and the input check may rotate or mirror it. The protocol is that of
  Santomartino et al. 2024 (Radiology: Artificial Intelligence), with more transformations.

what it writes, in DIR
  stress.csv         one row per transformation; the first is none
    cases              radiographs
    mae, mae_low, mae_high
                       mean absolute error in months, and its bootstrap 95 % interval
    p                  Wilcoxon's signed-rank test of the absolute errors against those of the first row
    error_over_12      share of radiographs whose age is wrong by more than 12 months
    mean_change, mean_absolute_change
                       how far the age moves from that of the unchanged radiograph, in months
    changed_over_12    share of radiographs whose age moves by more than 12 months
    not_recognized     share for which the input check warns
  stress.png         the same as a figure
  transformed.png    one radiograph under each transformation, as the model receives it: this is patient data

examples
  python -m baa.stress --out stressed data.root=/data/rsna
  python -m baa.stress --checkpoint model.onnx --out stressed data.root=/data/rsna
  python -m baa.stress --out clinic data.source=table data.table.file=ours.csv data.root=images data.table.image=file
"""


def main() -> None:
    """Parse, test, print the table."""
    parser = command_parser("stress", "Test how a model's ages change with the image.", EPILOG)
    models_option(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    split_option(parser)
    settings_argument(parser, over="the checkpoint's")
    arguments = parse_with_settings(parser)
    take_models(arguments, "settings")

    from baa.api import load_model  # torch is not imported for --help
    from baa.inference.graph import SUFFIX, ExportedGraph
    from baa.inference.stress import stress_graph

    keep_libraries_quiet()
    how = {"split": arguments.split, "out": arguments.out}
    if arguments.checkpoint[0].endswith(SUFFIX):
        if len(arguments.checkpoint) > 1 or arguments.weights:
            raise InputError("--checkpoint: an ONNX file is tested alone; export the ensemble as one file")
        table = stress_graph(ExportedGraph(Path(arguments.checkpoint[0])), arguments.settings, **how)
    else:
        table = load_model(arguments.checkpoint, weights=arguments.weights).stress(arguments.settings, **how)
    shown = [name for name in ("transformation", "mae", "mean_change", "changed_over_12", "not_recognized") if name in table]
    print(table[shown].to_string(index=False, float_format="{:.2f}".format))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    run_command(main)
