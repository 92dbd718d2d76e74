"""Which case is trained on, which chooses, which judges: decided once, by id."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from baa.data.cases import Case
from baa.errors import InputError


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
        by: `source` (official files or a column), `hash` (of the id), or `auto`: the source's where it names one. A source that
            has nobody to choose by has them drawn from those to train on.
        seed, val_share, test_share: of the hash.
        test_ids: ids that are in the test split whatever the rest says.

    Raises:
        InputError: cases are to keep the source's split and have none.
    """
    if by == "auto":
        by = "source" if any(case.split for case in cases) else "hash"
    if by == "source" and (adrift := [case.id for case in cases if case.split is None and case.id not in test_ids]):
        raise InputError(
            f"{len(adrift)} of {len(cases)} cases, such as {adrift[0]}, have no split in the source (train, val or test); "
            "give them one, or data.split.by=hash to draw all by id"
        )

    none_chooses = not any(case.split == "val" and case.id not in test_ids for case in cases)

    def split_of(case: Case) -> str | None:
        if case.id in test_ids:
            return "test"
        if by == "hash":
            return hashed_split(case.id, seed, val_share, test_share)
        return hashed_split(case.id, seed, val_share, 0) if none_chooses and case.split == "train" else case.split

    return [replace(case, split=split_of(case)) for case in cases]
