"""A model exported as an ONNX file, read back for a test of its ages."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baa.atomic_io import read_json
from baa.errors import InputError
from baa.nets.backbone import GrayImage

SUFFIX = ".onnx"


class ExportedGraph:
    """An ONNX file of `baa.export`, with the JSON file beside it.

    settings: those of its model on data, plain.

    Args:
        file: ends in .onnx.

    Raises:
        InputError: a file is missing, is no such graph, or ONNX Runtime is not installed.
    """

    def __init__(self, file: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError("--checkpoint: an ONNX file needs onnxruntime: pip install -e '.[export]'") from error
        description = file.with_suffix(".json")
        for one in (file, description):
            if not one.is_file():
                raise InputError(f"--checkpoint: {one} does not exist; baa.export writes {file.name} and {description.name}")
        self.settings: dict[str, Any] = read_json(description).get("settings", {})
        if "data" not in self.settings:
            raise InputError(f"--checkpoint: {description} has no settings; export the model again")
        try:
            self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:  # of many kinds, without a common class
            raise InputError(f"--checkpoint: {file} is no ONNX file, or a damaged one; export the model again") from error

    def months(self, source: GrayImage, sex: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Compute the ages [B] of radiographs [B, 1, S, S] in [0, 1]."""
        [months] = self.session.run(["months"], {"source": source.numpy(), "sex": sex.numpy()})
        return torch.from_numpy(months)
