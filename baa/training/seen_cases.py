"""Evaluation cases that have been trained on: by a source model, or earlier in the same run."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.atomic_io import write_atomic
from baa.checkpoints.provenance import Provenance
from baa.data.cache import Radiographs
from baa.data.fingerprint import fingerprints, recognized
from baa.errors import InputError

CASES = "cases.csv"
COLUMNS = ("id", "split", "months", "sex", "fingerprint")
EARLIER = {"train": (), "val": ("train",), "test": ("train", "val")}
"""Splits that must not hold the cases of a split."""

CONSEQUENCE = {"val": "choice of an epoch and intervals", "test": "test MAE"}


def log_seen_cases(source_models: Provenance, splits: Mapping[str, Radiographs]) -> None:
    """Log how many validation and test cases were trained on, by their pixels.

    A source model that chose by the same validation cases and was not trained on them is no problem for them.

    Args:
        source_models: what this run inherits from the models that it starts from.
        splits: radiographs by split.
    """
    for digest in source_models.unrecorded:
        rank_zero_info(
            f"weights with SHA-256 {digest[:12]}...: the file does not say which radiographs it was trained on; "
            "validation and test cases may be among them"
        )
    own = fingerprints(splits["train"])
    for split, what in CONSEQUENCE.items():
        some = splits[split]
        remedy = f"{what} will look too good"
        if count := int(recognized(fingerprints(some), own).sum()):
            rank_zero_info(f"{count} of the {len(some.cases)} {split} cases show the radiograph of a training case: {remedy}")
        if count := int(source_models.knows(some, trained_only=split == "val").sum()):
            rank_zero_info(
                f"{count} of the {len(some.cases)} {split} cases were trained or chosen on by a source model: "
                f"{remedy}; use that model's data.split, or evaluate with `python -m baa.evaluate --split unseen`"
            )
        if count := int(source_models.knows_id(some).sum()):
            rank_zero_info(
                f"{count} of the {len(some.cases)} {split} cases have the id of a case that a source model was trained or "
                f"chosen on: if they are the same, {remedy}. That model is of an earlier version, which recorded ids alone: "
                "equal ids of another source are counted, radiographs under another id are not"
            )


class RunCases:
    """The cases of a run, in `cases.csv` of its folder.

    Args:
        folder: of the run.
        splits: radiographs by split.
    """

    def __init__(self, folder: Path, splits: Mapping[str, Radiographs]) -> None:
        self.file = folder / CASES
        self.rows: list[tuple[str, ...]] = [
            (case.id, split, _number(case.months), case.sex.name.lower(), digest.hex())
            for split, radiographs in splits.items()
            for case, digest in zip(radiographs.cases, fingerprints(radiographs), strict=True)
        ]

    def keep(self, *, begun: bool) -> None:
        """Write the cases; if a stage of the run has begun, first compare them with those that it was begun with.

        Raises:
            InputError: a case for evaluation has been trained on, or has another label than before.
        """
        if begun and self.file.exists():
            self._compare([tuple(row) for row in csv.reader(io.StringIO(self.file.read_text(encoding="utf-8")))][1:])
        text = io.StringIO()
        csv.writer(text).writerows([COLUMNS, *self.rows])
        rank_zero_only(write_atomic)(self.file, text.getvalue())

    def _compare(self, former: list[tuple[str, ...]]) -> None:
        before = {row[0]: row for row in former}
        remedy = "restore the data with which the run began, or give another name="
        changed = [row for row in self.rows if row != before.get(row[0])]
        for split, earlier in EARLIER.items():
            rows = [row for row in changed if row[1] == split and _place(row) != _place(before.get(row[0], row[:1]))]
            known = [row for row in former if row[1] in earlier]
            if found := np.flatnonzero(recognized(_prints(rows), _prints(known))).tolist():
                raise InputError(
                    f"{self.file}: {len(found)} {split} cases, such as {rows[found[0]][0]}, were trained or chosen on when "
                    f"this run began; {remedy}"
                )
        if relabeled := [row[0] for row in changed if row[0] in before and row[2:4] != before[row[0]][2:4]]:
            raise InputError(
                f"{self.file}: {len(relabeled)} cases, such as {relabeled[0]}, had another age or sex when this run began; "
                f"{remedy}"
            )
        if gone := len(before.keys() - {row[0] for row in self.rows}):
            rank_zero_info(f"{gone} cases fewer than when this run began: {self.file}")
        if changed:
            rank_zero_info(f"{len(changed)} cases are new, or other images, or of another split than when this run began")


def _place(row: tuple[str, ...]) -> tuple[str, ...]:
    """Split and fingerprint of a row."""
    return row[1:2] + row[4:]


def _prints(rows: list[tuple[str, ...]]) -> list[bytes]:
    return [bytes.fromhex(row[4]) for row in rows]


def _number(months: float | None) -> str:
    return "" if months is None else f"{months:.6g}"
