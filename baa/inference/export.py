"""A model for other runtimes: the logic of `python -m baa.export`."""

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from baa.atomic_io import replacing, write_whole
from baa.checkpoints.bundle import describe
from baa.checkpoints.load import restore
from baa.config.load import load
from baa.data.sources.phantom.phantom import phantom_cases
from baa.errors import InputError
from baa.inference.whole_path import Answer, WholePath
from baa.patient import Sex

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

OPSET = 20
"""The first whose GridSample is as torch's."""

TRIALS = 4
MONTHS_APART, BOXES_APART_PX = 0.05, 1.0
"""More than this between the exported graph and torch on phantoms, and nothing is written."""

INPUTS = ("source", "sex")


def export(checkpoint: Path, out: Path, coverage: float) -> dict[str, float]:
    """Write the whole path of a model as one graph, and beside it what it takes and gives, as JSON.

    Args:
        checkpoint: of an estimator, or a bundle.
        out: a file that ends in .onnx or .pt2.
        coverage: of the intervals.

    Returns:
        How far the graph was from torch on phantoms: months, and pixels of boxes.

    Raises:
        InputError: the model has no whole path, the name of the file says no format, or the graph answers otherwise.
    """
    kind = next((kind for kind, suffix in SUFFIXES.items() if out.suffix == suffix), None)
    if kind is None:
        raise InputError(f"--out: {out} says no format; end it in {' or '.join(SUFFIXES.values())}")
    model = restore(checkpoint)
    path, px = WholePath(model, coverage), load(None, base=model.settings).data.source_px
    pixels = np.stack([case.image.load(px).pixels for case in phantom_cases(TRIALS, seed=0)])
    example = torch.from_numpy(pixels)[:, None].float() / 255, torch.arange(TRIALS) % len(Sex)
    with replacing(out) as fresh:
        run = (_onnx if kind == "onnx" else _torch)(path, example, fresh)
        apart = _apart(path, run, example, px)
        if not (apart["months"] <= MONTHS_APART and apart["pixels"] <= BOXES_APART_PX):
            raise InputError(f"the exported graph is {apart['months']:.2f} months off torch: nothing was written")
    write_whole(out.with_suffix(".json"), json.dumps(_told(px, coverage) | describe(model._replace(recogniser=None)), indent=2))
    return apart


def _onnx(path: WholePath, example: tuple[Tensor, Tensor], file: Path) -> Callable[..., list[np.ndarray]]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"ONNX needs {error.name}: pip install -e '.[export]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            path,
            example,
            file,
            input_names=list(INPUTS),
            output_names=list(Answer._fields),
            dynamic_shapes={"source": {0: "batch"}, "sex": {0: "batch"}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda *inputs: session.run(None, dict(zip(INPUTS, (x.numpy() for x in inputs), strict=True)))


def _torch(path: WholePath, example: tuple[Tensor, Tensor], file: Path) -> Callable[..., list[np.ndarray]]:
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.export.export(path, example, dynamic_shapes={"source": {0: batch}, "sex": {0: batch}})
    torch.export.save(program, file)
    loaded = torch.export.load(file).module()
    return lambda *inputs: [x.numpy() for x in loaded(*inputs)]


@torch.no_grad()
def _apart(path: WholePath, run: Callable[..., list[np.ndarray]], example: tuple[Tensor, Tensor], px: int) -> dict[str, float]:
    """On another number of radiographs than the graph was made with."""
    inputs = [x[: TRIALS - 1].contiguous() for x in example]
    ours, theirs = Answer(*path(*inputs)), Answer(*map(torch.from_numpy, run(*inputs)))
    return {
        "months": float((ours.months - theirs.months).abs().max()),
        "pixels": float((ours.boxes - theirs.boxes).abs().max()) * px,
    }


def _told(px: int, coverage: float) -> dict[str, Any]:
    return {
        "inputs": {
            "source": f"float32 [batch, 1, {px}, {px}] in 0 to 1: bones bright, the longer side fills the square, the rest is "
            "0, levels stretched from the 0.5th to the 98.5th percentile",
            "sex": f"int64 [batch]: {', '.join(f'{sex.value} {sex.name.lower()}' for sex in Sex)}",
        },
        "outputs": {
            "months": "float32 [batch], bone age",
            "lower": f"float32 [batch], months; {100 * coverage:.3g} % of these hold the truth; NaN where too few tell",
            "upper": "float32 [batch], likewise",
            "boxes": "float32 [batch, 2, 4], carpal and hand: x0, y0, x1, y1 as shares of the square",
            "heat": "float32 [batch, 2, rows, columns], where the network looked, first and second, not negative",
        },
    }
