"""Evaluation cases that a source model has been trained on; and the cases of a run, which stay the same to its end."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.atomic_io import write_atomic
from baa.checkpoints.provenance import Provenance
from baa.data.cache import Radiographs
from baa.data.cases import Case
from baa.data.fingerprint import fingerprints, recognized
from baa.errors import InputError

CASES = "cases.csv"
CHANGES = {
    "split": "in another split",
    "months": "of another age",
    "sex": "of another sex",
    "image": "with another image",
    "annotations": "with other annotations",
}
"""What another value means, by column."""

COLUMNS = ("id", *CHANGES)
FIRST_COLUMNS = COLUMNS[:4]
"""Of every version."""

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
            f"weights with SHA-256 {digest[:12]}...: no record of their training radiographs; "
            "validation and test cases may be among them"
        )
    own = fingerprints(splits["train"])
    for split, what in CONSEQUENCE.items():
        some = splits[split]
        remedy = f"{what} will be too optimistic"
        if count := int(recognized(fingerprints(some), own).sum()):
            rank_zero_info(
                f"{count} of the {len(some.cases)} {split} cases have the same radiograph as a training case: {remedy}"
            )
        if count := int(source_models.knows(some, trained_only=split == "val").sum()):
            rank_zero_info(
                f"{count} of the {len(some.cases)} {split} cases were trained or chosen on by a source model: "
                f"{remedy}; use that model's data.split, or evaluate with `python -m baa.evaluate --split unseen`"
            )
        if count := int(source_models.knows_id(some).sum()):
            rank_zero_info(
                f"{count} of the {len(some.cases)} {split} cases have the id of a case that a source model was trained or "
                f"chosen on: if they are the same, {remedy}. That model is of an earlier version, which recorded ids alone: "
                "an equal id from another source counts as seen, the same radiograph under another id does not"
            )


class RunCases:
    """The cases of a run, in `cases.csv` of its folder.

    Args:
        folder: of the run.
        splits: radiographs by split.
    """

    def __init__(self, folder: Path, splits: Mapping[str, Radiographs]) -> None:
        self.file = folder / CASES
        self.rows = [
            (case.id, split, _number(case.months), case.sex.name.lower(), radiographs.digest(index), _annotations(case))
            for split, radiographs in splits.items()
            for index, case in enumerate(radiographs.cases)
        ]

    @property
    def digest(self) -> str:
        """A digest of the cases and their order, for checkpoints."""
        return hashlib.blake2b(json.dumps(self.rows).encode(), digest_size=12).hexdigest()

    def keep(self, *, begun: bool) -> None:
        """Write the cases; if a stage of the run has begun, first compare them with those that it was begun with.

        Raises:
            InputError: a case has another label, image or split, is new, or is gone.
        """
        if begun and self.file.exists():
            self._compare(self._former())
        text = io.StringIO()
        csv.writer(text).writerows([COLUMNS, *self.rows])
        rank_zero_only(write_atomic)(self.file, text.getvalue())

    def _former(self) -> list[dict[str, str]]:
        """The rows of the file, all whole. An earlier version had fewer columns."""
        text = self.file.read_text(encoding="utf-8", errors="replace")
        reader = csv.DictReader(io.StringIO(text))
        rows, head = list(reader), reader.fieldnames or ()
        if not set(FIRST_COLUMNS) <= set(head) or any(None in row or None in row.values() for row in rows):
            raise InputError(
                f"{self.file}: empty, cut short or damaged; restore it, or remove it if the data are those of the run's start"
            )
        return rows

    def _compare(self, former: list[dict[str, str]]) -> None:
        known = [name for name in CHANGES if former and name in former[0]]  # an earlier version had fewer
        before = {row["id"]: {name: row[name] for name in known} for row in former}
        now = {row[0]: {name: value for name, value in zip(COLUMNS, row, strict=True) if name in known} for row in self.rows}
        kinds = {"new": now.keys() - before.keys(), "gone": before.keys() - now.keys()}
        both = [(id_, before[id_], now[id_]) for id_ in before.keys() & now.keys()]
        kinds |= {CHANGES[name]: {id_ for id_, old, new in both if old[name] != new[name]} for name in known}
        remedy = "restore the original data, or give another name="
        if different := set().union(*kinds.values()):
            counts = ", ".join(f"{len(ids)} {kind}" for kind, ids in kinds.items() if ids)
            raise InputError(
                f"{self.file}: {len(different)} cases, such as {min(different)}, differ from the start of this run "
                f"({counts}); {remedy}"
            )
        if list(before) != list(now):
            raise InputError(f"{self.file}: the order of the cases differs from the start of this run; {remedy}")


def _annotations(case: Case) -> str:
    """A digest of a case's annotations; they are rounded, so that it is the same on any machine."""
    boxes = {name: [round(edge, 6) for edge in box] for name, box in sorted(case.gt_boxes.items())}
    point = None if case.capitate is None else [round(x, 6) for x in case.capitate]
    text = json.dumps([boxes, point])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest() if boxes or point else ""


def _number(months: float | None) -> str:
    return "" if months is None else f"{months:.6g}"
