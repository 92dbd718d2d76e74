"""A trained model in Python: load once, predict many times.

import baa

model = baa.load_model()
prediction = model.predict("hand.png", sex="female")
print(prediction.months, prediction.interval, prediction.warnings)
prediction.plot("hand_overlay.png")

table = model.predict(["a.png", "b.dcm"], sex=["male", None]).to_pandas()
ensemble = baa.load_model(["runs/fold0/estimator/best.ckpt", "runs/fold1/estimator/best.ckpt"])
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from baa.assembly.trainer import compute_device
from baa.checkpoints.ensemble import ensemble_of
from baa.checkpoints.load import digest
from baa.checkpoints.load import load_model as load_trained_model
from baa.checkpoints.trained_model import TrainedModel
from baa.config.schema import Config
from baa.errors import InputError
from baa.evaluation.checkpoint import evaluate
from baa.inference.arguments import RadiographLike, as_inputs
from baa.inference.export import export
from baa.inference.inputs import InputFile
from baa.inference.predict import job_name, predict_files, predict_stream
from baa.inference.prediction import Prediction, Predictions
from baa.inference.stress import stress
from baa.metrics.coverage import COVERAGE
from baa.model_card import SHIPPED, model_path
from baa.nets.ensemble import Ensemble
from baa.patient import Sex

BATCH_SIZE = 8


def load_model(
    path: str | Path | Sequence[str | Path] = SHIPPED,
    *,
    weights: Sequence[float] | None = None,
    device: str | torch.device | None = None,
    batch_size: int = BATCH_SIZE,
    coverage: float = COVERAGE,
) -> "Model":
    """Load a trained model, or several as one whose ages are averaged.

    Args:
        path: `pretrained` (the model of this package), a checkpoint, or a bundle; or a list of them. Boxes, heat maps and
            warnings of an ensemble are those of the first.
        weights: of the models' ages; default: equal.
        device: `cpu`, `cuda`, ...; default: a GPU if there is one.
        batch_size: radiographs at a time, for lists and batches.
        coverage: of the prediction intervals, on data like the validation split; between 0 and 1.

    Raises:
        InputError: there is no such model, another version wrote it, or an argument is out of range.

    Example:
        >>> import baa
        >>> baa.load_model(device="cpu", batch_size=4).batch_size
        4
    """
    found = [model_path(str(one)) for one in ([path] if isinstance(path, str | Path) else path)]
    trained = ensemble_of([load_trained_model(one) for one in found], weights)
    return Model(trained, found if trained.members else found[0], device, batch_size, coverage)


class Model:
    """A trained model that stays loaded, on its device. `load_model` makes one.

    Args:
        trained: the model.
        path: of its checkpoint or bundle; of an ensemble, those of its members, in their order.
        device, batch_size, coverage: see `load_model`.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> import baa
        >>> model = baa.load_model(device="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.linear_gradient("L").save(Path(folder, "film.png"))
        ...     inputs = [InputFile(Path(folder, "film.png"), Sex.MALE, sex_source="option")]
        ...     counts = model.predict_files(inputs, Path(folder, "predicted"), overlays=False, progress=False)
        ...     [sorted(prediction.boxes) for prediction in model.stream(inputs)], counts
        ([['carpal', 'hand']], (1, 0))
    """

    def __init__(
        self,
        trained: TrainedModel,
        path: Path | Sequence[Path],
        device: str | torch.device | None = None,
        batch_size: int = BATCH_SIZE,
        coverage: float = COVERAGE,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size: {batch_size} is not positive")
        if not 0 < coverage < 1:
            raise InputError(f"coverage: {coverage:g} is not between 0 and 1")
        self.path = path
        self.device = compute_device(Config()) if device is None else torch.device(device)
        self.batch_size = batch_size
        self.coverage = coverage
        self.trained = trained
        trained.model.to(self.device)

    def predict(
        self,
        x: RadiographLike | Iterable[RadiographLike],
        sex: str | Sex | Iterable[str | Sex | None] | None = None,
        *,
        age_months: float | Iterable[float | None] | None = None,
        strict: bool = False,
        disagree: bool = False,
    ) -> Any:
        """Predict the bone age of one radiograph, or of several.

        Args:
            x: one radiograph: a path, the bytes of a PNG, JPEG, TIFF, WebP, BMP or DICOM file, or an array or tensor [H, W],
                [H, W, C] or [C, H, W]. C is 1, 3 (RGB) or 4. Any number type: levels are stretched. Or several: a flat list of
                these, or a batch [N, H, W], [N, H, W, C] or [N, C, H, W]. A [3, H, W] array is one RGB image; give three gray
                radiographs as [3, 1, H, W]. Give a DICOM file as path or bytes: its pixel array lacks sex, age and polarity.
            sex: `female`, `male`, `unknown`, or None: the sex in a DICOM header, else unknown. One, or one per radiograph.
            age_months: the chronological age, one or one per radiograph. It does not change the bone age.
            strict: return an error instead of an age where no whole upright hand is recognized.
            disagree: also compute the range of the ages of slightly moved views.

        Returns:
            A `Prediction` for one radiograph, `Predictions` (a list) for several. In a list, a radiograph without an age is
            a prediction with an `error`.

        Raises:
            InputError: one radiograph has no age, or an argument has the wrong form.

        Example:
            >>> import numpy as np
            >>> import baa
            >>> model = baa.load_model(device="cpu")
            >>> model.predict([np.zeros((200, 160), np.uint8), b"no image"], sex=["male", "female"])[1].error
            'not an image in PNG, JPEG, TIFF, WebP, BMP or DICOM'
        """
        inputs, single = as_inputs(x, sex, age_months)
        predictions = Predictions(self.stream(inputs, strict=strict, disagree=disagree))
        if not single:
            return predictions
        if error := predictions[0].error:
            raise InputError(f"{predictions[0].file or 'x'}: {error}")
        return predictions[0]

    def stream(
        self,
        inputs: Sequence[InputFile],
        *,
        strict: bool = False,
        disagree: bool = False,
        workers: int = 0,
        progress: bool = False,
    ) -> Iterator[Prediction]:
        """Yield the predictions of radiographs one by one; see `baa.inference.predict.predict_stream`.

        Args:
            inputs: files, bytes, or arrays [H, W], [H, W, C] or [C, H, W], each with sex and age.
            strict, disagree: see `predict`.
            workers: processes that decode files; 0 decodes in this one.
            progress: show a progress bar.
        """
        return predict_stream(
            self.trained,
            inputs,
            device=self.device,
            coverage=self.coverage,
            strict=strict,
            disagree=disagree,
            batch_size=self.batch_size,
            workers=workers,
            progress=progress,
        )

    def predict_files(
        self,
        inputs: Sequence[InputFile],
        out: Path,
        *,
        overlays: bool = True,
        strict: bool = False,
        disagree: bool = False,
        workers: int = 0,
        progress: bool = True,
    ) -> tuple[int, int | None]:
        """Write `predictions.csv` and overlays of many files; resumable. See `baa.inference.predict.predict_files`.

        Args:
            inputs: files, each with sex and age.
            out: folder of the table and the overlays.
            overlays: draw a picture [H, W, 3] per file.
            strict, disagree: see `predict`.
            workers: processes that decode files; 0 decodes in this one.
            progress: show a progress bar.

        Returns:
            The number of files, and how many of them have no prediction; None for the latter while other processes read.

        Raises:
            InputError: the folder cannot be written.
        """
        settings: dict[str, Any] = {"coverage": self.coverage, "overlays": overlays, "strict": strict, "disagree": disagree}
        if isinstance(self.trained.model, Ensemble):
            settings |= {"weights": self.trained.model.weights.tolist()}
            settings |= {"crops": [member.settings["crops"] for member in self.trained.members]}
        digests = map(digest, [self.path] if isinstance(self.path, Path) else self.path)
        return predict_files(
            self.trained,
            inputs,
            out,
            job=job_name("+".join(digests), self.trained, inputs, **settings),
            device=self.device,
            coverage=self.coverage,
            overlays=overlays,
            strict=strict,
            disagree=disagree,
            batch_size=self.batch_size,
            workers=workers,
            progress=progress,
        )

    def evaluate(
        self,
        settings: Sequence[str] = (),
        *,
        out: Path,
        split: str = "test",
        compare: bool = False,
        faithful: bool = False,
        against: Path | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Evaluate the model on a split; see `baa.evaluation.checkpoint.evaluate`.

        Args:
            settings: `key=value` that override the model's, such as `data.root=...`.
            out: folder of the results.
            split: `train`, `val`, `test` or `unseen`.
            compare: also compare all heat map methods, modes and box methods.
            faithful: also measure whether the heat maps show what the locator uses.
            against: another `predictions.csv` of these cases, for the paired difference.

        Returns:
            Metrics by stage, such as `{"estimator": {"test/mae": ...}}`.

        Raises:
            InputError: a setting is not allowed, or the split has no case.
        """
        try:
            how: dict[str, Any] = {"compare": compare, "faithful": faithful, "against": against}
            return evaluate(self.trained, settings, split=split, out=out, **how)
        finally:
            self.trained.model.to(self.device)  # Lightning leaves it on the CPU

    def stress(self, settings: Sequence[str] = (), *, out: Path, split: str = "test") -> pd.DataFrame:
        """Read a split under changes of the image that occur in practice; see `baa.inference.stress.stress`.

        Args:
            settings: that override the model's, such as `data.root=FOLDER`.
            out: folder of the table and the figure.
            split: whose radiographs are read.

        Returns:
            One row per transformation; errors in months.

        Raises:
            InputError: a setting or the data cannot be used, or the split has no case.
        """
        return stress(self.trained, settings, split=split, out=out, device=self.device)

    def export(self, out: str | Path) -> dict[str, float]:
        """Write the model as an ONNX or torch.export graph; see `baa.inference.export.export`.

        Args:
            out: ends in `.onnx` or `.pt2`.

        Returns:
            The largest differences between graph and torch: `months`, and `pixels` of boxes.

        Raises:
            InputError: the model reads no crops, a package is missing, or the graph differs from torch.
        """
        return export(self.trained, Path(out), self.coverage)
