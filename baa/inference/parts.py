"""A table in parts, each written atomically, so that a job that is started again does only what is missing."""

import contextlib
import csv
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from baa.atomic_io import atomic_path

PART_ROWS = 256
"""Rows of a part, the most that a killed process loses."""


class Parts:
    """The rows of a job, in `folder/NUMBER.parquet` until the table is complete.

    Any number of processes work on a job, also on machines that share only the folder. The number of a part decides which
    process computes it. The process that finishes last merges them.

    Args:
        folder: of this job and no other.
        count: of the rows.
        columns: of the table.
    """

    def __init__(self, folder: Path, count: int, columns: Sequence[str]) -> None:
        self.folder = folder
        self.count = count
        self.columns = list(columns)

    def missing(self, process: int, processes: int) -> Iterator[range]:
        """Yield the rows of each part that this process has to compute and that does not exist yet."""
        for number in range(process, self._total, processes):
            if not self._file(number).exists():
                yield range(number * PART_ROWS, min((number + 1) * PART_ROWS, self.count))

    def write(self, first: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write the part that begins with row `first`."""
        file = self._file(first // PART_ROWS)
        file.parent.mkdir(parents=True, exist_ok=True)
        own = file.with_suffix(f".{uuid.uuid4().hex}")  # a job that was queued again may overlap with itself
        pd.DataFrame(list(rows), columns=self.columns).to_parquet(own, index=False)
        own.replace(file)

    def merge(self, file: Path) -> dict[str, int] | None:
        """Write the table of all parts, in order; nothing while a part is missing.

        Returns:
            For each column the number of rows with a value; None while a part is missing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            parts = [self._file(number) for number in range(self._total)]
            if not all(part.exists() for part in parts):
                return None
            filled = dict.fromkeys(self.columns, 0)
            with atomic_path(file) as growing, growing.open("w", newline="", encoding="utf-8") as handle:
                csv.writer(handle, lineterminator="\n").writerow(self.columns)
                for part in parts:
                    rows = pd.read_parquet(part)
                    rows.to_csv(handle, header=False, index=False)
                    filled = {column: filled[column] + int(rows[column].notna().sum()) for column in self.columns}
        return filled

    def remove(self) -> None:
        """Remove the parts, and the folder of jobs if it is then empty. Call it when no other process works on the job."""
        shutil.rmtree(self.folder)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    @property
    def _total(self) -> int:
        return -(-self.count // PART_ROWS)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.parquet"
