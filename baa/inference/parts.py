"""A table in parts: each is written whole or not at all, and what is there is not done again."""

import contextlib
import csv
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from baa.atomic_io import replacing

SHARD = 256
"""Rows of a part: what a killed process loses at most."""


class Shards:
    """The rows of a job, in `folder/NUMBER.parquet` until all are there.

    Any number of processes work at one job, also on machines that share nothing but the folder. Which parts are whose follows
    from their numbers alone; whoever finishes last merges.

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
        """The rows of each part that is this process's and is not there yet."""
        for number in range(process, self._total, processes):
            if not self._file(number).exists():
                yield range(number * SHARD, min((number + 1) * SHARD, self.count))

    def write(self, first: int, rows: Sequence[dict[str, Any]]) -> None:
        """Keep a part that begins with row `first`."""
        file = self._file(first // SHARD)
        file.parent.mkdir(parents=True, exist_ok=True)
        own = file.with_suffix(f".{uuid.uuid4().hex}")  # a job that was queued again may overlap with itself
        pd.DataFrame(list(rows), columns=self.columns).to_parquet(own, index=False)
        own.replace(file)

    def merge(self, file: Path) -> dict[str, int] | None:
        """Write the table of all parts, each row once and in order; nothing while a part is missing.

        Returns:
            In how many rows each column says something, or None.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            parts = [self._file(number) for number in range(self._total)]
            if not all(part.exists() for part in parts):
                return None
            filled = dict.fromkeys(self.columns, 0)
            with replacing(file) as growing, growing.open("w", newline="") as handle:
                csv.writer(handle, lineterminator="\n").writerow(self.columns)
                for part in parts:
                    rows = pd.read_parquet(part)
                    rows.to_csv(handle, header=False, index=False)
                    filled = {column: filled[column] + int(rows[column].notna().sum()) for column in self.columns}
        return filled

    def remove(self) -> None:
        """Once nobody else works at the job; the folder of jobs too, if this was the only one."""
        shutil.rmtree(self.folder)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    @property
    def _total(self) -> int:
        return -(-self.count // SHARD)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.parquet"
