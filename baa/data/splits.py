"""Which case is trained on, which chooses, which judges: decided once, by id."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from baa.data.cases import SPLITS, Case
from baa.errors import InputError

SPLIT_WORDS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


def hashed_split(case_id: str, seed: int, val_share: float, test_share: float) -> str:
    """The split of an id: the same on every machine, whatever other cases there are."""
    digest = hashlib.sha256(f"{seed}:{case_id}".encode()).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < test_share:
        return "test"
    return "val" if share < test_share + val_share else "train"


def assign_splits(
    cases: Sequence[Case],
    *,
    by: str = "auto",
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
    test_ids: frozenset[str] = frozenset(),
) -> list[Case]:
    """Give every case its split.

    Args:
        cases: as a source gave them.
        by: `source` (official files or a column), `hash` (of the id), or `auto`: the source's where it names one.
        seed, val_share, test_share: of the hash.
        test_ids: ids that are in the test split whatever the rest says.

    Raises:
        InputError: the source's split is asked for and a case has none, or one that is no split.
    """
    if by == "auto":
        by = "source" if any(case.split for case in cases) else "hash"
    assigned = []
    for case in cases:
        if case.id in test_ids:
            split = "test"
        elif by == "hash":
            split = hashed_split(case.id, seed, val_share, test_share)
        else:
            split = (case.split or "").strip().lower()
            split = SPLIT_WORDS.get(split, split)
            if split not in SPLITS:
                raise InputError(f"data.split.by=source: case {case.id} has split {case.split!r}, not train, val or test")
        assigned.append(replace(case, split=split))
    return assigned
