"""A model for other runtimes: the logic of `python -m baa.export`."""

import json
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from baa.atomic_io import atomic_path, write_atomic
from baa.checkpoints.bundle import describe
from baa.checkpoints.trained_model import TrainedModel, cropper_arguments, with_lines
from baa.config.load import to_share
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError
from baa.inference import preprocess
from baa.inference.gradient_graph import without_autograd
from baa.metrics.conformal import CALIBRATED_BANDS_MONTHS, half_width
from baa.metrics.saturation import OLDEST, YOUNGEST, end_of
from baa.nets.backbone import GrayImage
from baa.nets.cropper import RegionCropper
from baa.nets.ensemble import Ensemble
from baa.nets.heads import clamp_to_age_range
from baa.nets.two_stage import BoneAgeModel
from baa.nets.view import View
from baa.patient import MAX_MONTHS, Sex

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}

OPSET = 20
"""The first ONNX version whose GridSample equals torch's."""

TRIALS = 4
MOST_MONTHS, MOST_PIXELS = 0.05, 1.0
"""Largest accepted difference between graph and torch on phantoms, in months and in pixels of boxes."""

INPUTS = ("source", "sex")

PREPROCESS = "preprocess.py"
WRITTEN_BY = "Written by baa.export"
"""Part of its first line. Another file of this name is not replaced."""

SLACK = 1e-3
LEAST_BRIGHT = 0.5
"""A film whose levels are stretched has some brighter pixels; one that was divided by 255 twice has none."""


class Outputs(NamedTuple):
    """The output of an exported graph.

    months, lower, upper [B]; all are NaN for an input out of range, the bounds also if too few calibration cases exist;
    boxes [B, R, 4] as shares of the square; heat [B, R, h, w], not negative.
    """

    months: Tensor
    lower: Tensor
    upper: Tensor
    boxes: Tensor
    heat: Tensor


class ExportedModel(nn.Module):
    """The two-stage model and its interval as one module. It neither rotates radiographs nor warns.

    Args:
        trained: an estimator that reads crops, or an ensemble of such.
        coverage: of the interval, on data like the validation split.

    Shapes:
        source [B, 1, S, S] in [0, 1], square, of side `data.source_px`; sex [B] of `Sex` -> the fields of `Outputs`, as a
        plain tuple that loads where baa is not installed

    Raises:
        InputError: a model of another kind, or one whose Grad-CAM has no closed form.
    """

    half_widths: Tensor
    band_ends: Tensor
    open_ends: Tensor

    def __init__(self, trained: TrainedModel, coverage: float) -> None:
        super().__init__()
        members = [_without_autograd_where_possible(one) for one in trained.members or (trained,)]
        self.model = members[0]
        if isinstance(trained.model, Ensemble):
            self.model = Ensemble(members, trained.model.weights.tolist())
        self.needs_gradients = not all(one.cropper.closed_form for one in members if one.cropper)
        middles = [(low + end) / 2 for low, end in CALIBRATED_BANDS_MONTHS.values()]
        widths = [[half_width(trained.calibration, sex, months, coverage) for months in middles] for sex in Sex]
        known = [[torch.nan if width is None else width for width in row] for row in widths]
        ends = [float(end) for _, end in CALIBRATED_BANDS_MONTHS.values()]
        open_from = [[end_of(trained.calibration, end, sex) for sex in Sex] for end in (YOUNGEST, OLDEST)]
        open_ends = torch.tensor([[torch.nan if age is None else age for age in ages] for ages in open_from])
        self.register_buffer("open_ends", open_ends, persistent=False)
        self.register_buffer("half_widths", torch.tensor(known), persistent=False)
        self.register_buffer("band_ends", torch.tensor(ends), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, source: GrayImage, sex: Int[Tensor, " batch"]) -> tuple[Tensor, ...]:
        known = (sex >= 0) & (sex < len(Sex))
        valid = known & _in_range(source)
        sex = torch.where(known, sex, int(Sex.UNKNOWN))
        view = View.of(source)
        regions = self.model.regions(view)
        assert regions is not None
        assert regions.heat is not None
        months = torch.where(valid, self.model(view, sex, regions).months, torch.nan)
        half = self._half_width(months, sex)
        lower, upper = (clamp_to_age_range(months + reach) for reach in (-half, half))
        youngest, oldest = self.open_ends[:, sex]  # NaN, which no age exceeds, for an end that is not saturated
        lower = torch.where((months <= youngest) & ~lower.isnan(), 0.0, lower)
        upper = torch.where((months >= oldest) & ~upper.isnan(), MAX_MONTHS, upper)
        return tuple(Outputs(months, lower, upper, regions.boxes, regions.heat))

    def _half_width(self, months: Float[Tensor, " batch"], sex: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        band = (months[:, None] >= self.band_ends[None, :-1]).sum(dim=1)
        return self.half_widths[sex, band]


def _without_autograd_where_possible(trained: TrainedModel) -> BoneAgeModel:
    """The model without its input check, its heat maps in closed form where they have one."""
    own = trained.model
    if own.estimator is None or trained.locator is None:
        raise InputError("export: only an estimator that reads crops can be exported; this model is not one")
    arguments = cropper_arguments(trained.settings["crops"]) | {"half_precision": False}
    cropper = RegionCropper(trained.locator, **arguments, closed_form=arguments["attribution"].method == "grad_cam")
    model = BoneAgeModel(cropper, own.estimator, whole_px=own.whole_px, flip_average=own.flip_average)
    return with_lines(model, trained.lines)


def _in_range(source: GrayImage) -> Bool[Tensor, " batch"]:
    """Return whether all levels are numbers in 0 to 1, and some are bright."""
    level = source.flatten(1)
    return ((level >= -SLACK) & (level <= 1 + SLACK)).all(dim=1) & (level > LEAST_BRIGHT).any(dim=1)


def export(trained: TrainedModel, out: Path, coverage: float) -> dict[str, float]:
    """Write a model as one graph, and beside it a JSON file on inputs, outputs and limits, and a script that makes inputs.

    Args:
        trained: an estimator that reads crops, or an ensemble of such.
        out: a file that ends in .onnx or .pt2.
        coverage: of the intervals.

    Returns:
        The largest difference between graph and torch on phantoms: `months`, and `pixels` of boxes.

    Raises:
        InputError: the model cannot be exported to this format, the suffix is another, the graph answers differently, or the
            folder has another `preprocess.py`.
    """
    kind = next((kind for kind, suffix in SUFFIXES.items() if out.suffix == suffix), None)
    if kind is None:
        raise InputError(f"--out: {out} has no known suffix; end it in {' or '.join(SUFFIXES.values())}")
    script = out.with_name(PREPROCESS)
    if script.exists() and WRITTEN_BY not in script.read_text(errors="replace"):
        raise InputError(f"--out: {script} was not written by baa.export; choose another folder")
    model, px = ExportedModel(trained, coverage), trained.settings["data"]["source_px"]
    pixels = np.stack([case.image.load(px).pixels for case in phantom_cases(TRIALS, seed=0)])
    example = torch.from_numpy(pixels)[:, None].float() / 255, torch.arange(TRIALS) % len(Sex)
    with atomic_path(out) as fresh:
        graph = without_autograd(model, example) if model.needs_gradients else model
        run = (_onnx if kind == "onnx" else _torch)(graph, example, fresh)
        difference = _difference(model, run, example, px)
        if not (difference["months"] <= MOST_MONTHS and difference["pixels"] <= MOST_PIXELS):
            raise InputError(
                f"--out: the graph differs from torch by {difference['months']:.2f} months (limit {MOST_MONTHS}) and "
                f"{difference['pixels']:.1f} px (limit {MOST_PIXELS}); nothing was written; try the other format, "
                f"{' or '.join(SUFFIXES.values())}"
            )
    description = _description(px, coverage, tuple(cropper_regions(model))) | describe(trained, checks_input=False)
    description |= {"settings": {"data": to_share(trained.settings)["data"]}}
    write_atomic(out.with_suffix(".json"), json.dumps(description, indent=2))
    write_atomic(script, preprocess_script(px))
    return difference


def preprocess_script(px: int) -> str:
    """The source of `baa.inference.preprocess` for a model that reads squares of `px`."""
    text = Path(preprocess.__file__).read_text()
    return re.sub(r"(?m)^SIDE = .*$", f"SIDE = {px}", text)


def cropper_regions(model: ExportedModel) -> list[str]:
    """Return the names of the regions that a graph finds."""
    assert model.model.cropper is not None
    return list(model.model.cropper.regions)


def _onnx(graph: nn.Module, example: tuple[Tensor, Tensor], file: Path) -> Callable[..., list[np.ndarray]]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"ONNX needs {error.name}: pip install -e '.[export]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                graph,
                example,
                file,
                input_names=list(INPUTS),
                output_names=list(Outputs._fields),
                dynamic_shapes=({0: "batch"}, {0: "batch"}),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise InputError(
                "export: ONNX lacks an operator of this model, such as the gradient of a pooling layer; end --out in .pt2"
            ) from error
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda *inputs: session.run(None, dict(zip(INPUTS, (x.numpy() for x in inputs), strict=True)))


def _torch(graph: nn.Module, example: tuple[Tensor, Tensor], file: Path) -> Callable[..., list[np.ndarray]]:
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.export.export(graph, example, dynamic_shapes=({0: batch}, {0: batch}))
    torch.export.save(program, file)
    loaded = torch.export.load(file).module()
    return lambda *inputs: [x.numpy() for x in loaded(*inputs)]


@torch.no_grad()
def _difference(
    model: ExportedModel, run: Callable[..., list[np.ndarray]], example: tuple[Tensor, Tensor], px: int
) -> dict[str, float]:
    """Compare graph and torch on another batch size than the graph was made with."""
    inputs = [x[: TRIALS - 1].contiguous() for x in example]
    ours, theirs = Outputs(*model(*inputs)), Outputs(*map(torch.from_numpy, run(*inputs)))
    return {
        "months": float((ours.months - theirs.months).abs().max()),
        "pixels": float((ours.boxes - theirs.boxes).abs().max()) * px,
    }


def _description(px: int, coverage: float, regions: tuple[str, ...]) -> dict[str, Any]:
    names, count = " and ".join(regions), len(regions)
    return {
        "inputs": {
            "source": f"float32 [batch, 1, {px}, {px}] in 0 to 1: bones bright, the longer side fills the square, the rest is "
            f"0, levels stretched from the 0.5th to the 98.5th percentile; {PREPROCESS} makes it",
            "filter": "Pillow's BILINEAR with reducing_gap 1.5: bilinear weights over all pixels that an output pixel covers; "
            "bilinear interpolation without this averaging shifts the age by months",
            "sex": f"int64 [batch]: {', '.join(f'{sex.value} {sex.name.lower()}' for sex in Sex)}",
        },
        "outputs": {
            "months": "float32 [batch], bone age. NaN if source is not in 0 to 1, has no level above "
            f"{LEAST_BRIGHT}, or sex is no code.",
            "lower": f"float32 [batch], months. Lower bound of the {100 * coverage:.3g} % interval, 0 at an open end. "
            "NaN without calibration.",
            "upper": f"float32 [batch], months. Upper bound, {MAX_MONTHS:.0f} at an open end.",
            "boxes": f"float32 [batch, {count}, 4], {names}: x0, y0, x1, y1 as shares of the square",
            "heat": f"float32 [batch, {count}, rows, columns], heat maps of {names}, not negative",
        },
    }
