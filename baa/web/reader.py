"""A model that stays loaded, and answers for a few files at a time."""

import io
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from baa.checkpoints.load import restore
from baa.inference.inputs import Asked
from baa.inference.predict import TABLE, predict_files
from baa.inference.rows import Answers
from baa.plots.overlay import Drawing, overlay

BATCH = 4


class Read(NamedTuple):
    """What was said of files: the table, a row a file, named without their folders; by place, what there is to look at."""

    table: pd.DataFrame
    drawings: dict[int, Drawing]

    def overlays(self) -> bytes:
        """The pictures, a ZIP archive."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as pictures:
            for place, drawing in self.drawings.items():
                picture = io.BytesIO()
                overlay(drawing).save(picture, "PNG")
                pictures.writestr(f"{place + 1}_{Path(self.table.file[place]).stem}.png", picture.getvalue())
        return archive.getvalue()


class Reader:
    """Reads one request after the other, whoever asks.

    Args:
        checkpoint: of any stage, or a bundle.
        coverage: share of the intervals that are to hold the truth.

    Raises:
        InputError: the checkpoint cannot be used.
    """

    def __init__(self, checkpoint: Path, coverage: float) -> None:
        self.model = restore(checkpoint)
        self.coverage = coverage
        self._alone = threading.Lock()

    def read(self, asked: Sequence[Asked], *, strict: bool = False) -> Read:
        """Answer for some files, in order; nothing of it is kept on disk.

        Args:
            asked: the files, and what is known of their patients.
            strict: whether a file whose answer cannot be relied on is refused instead.
        """
        drawings: dict[int, Drawing] = {}
        answers = Answers(asked, self.model.calibration, self.coverage, drawings.__setitem__, strict=strict)
        with self._alone, tempfile.TemporaryDirectory(prefix="baa_") as folder:
            predict_files(self.model, answers, Path(folder), job="page", batch_size=BATCH, workers=0, progress=False)
            table = pd.read_csv(Path(folder) / TABLE)
        table["file"] = [one.file.name for one in asked]
        return Read(table, drawings)
