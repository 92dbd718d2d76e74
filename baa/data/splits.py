"""The split of each case, by its id or its source."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from baa.data.cases import Case
from baa.errors import InputError


def hashed_split(case_id: str, seed: int, val_share: float, test_share: float) -> str:
    """The split of an id. It is the same on every machine and does not depend on other cases."""
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
    is_seen: Callable[[Case], bool] | None = None,
) -> list[Case]:
    """Give each case its split.

    If the source's split has no validation cases, they are drawn from its training cases.

    Args:
        cases: as a source returned them.
        by: `source` (official files or a column), `hash` (of the id), or `auto`: `source` if any case has a split, else `hash`.
        seed, val_share, test_share: parameters of the hash.
        test_ids: ids that are always in the test split.
        is_seen: for a test of a model: whether the model was trained or chosen on a case. If it has seen no case, a source
            without a split of its own is tested whole instead of by hash; `by` must be `auto`.

    Raises:
        InputError: `by` is `source` and a case has no split.
    """
    own = any(case.split for case in cases)
    if by == "auto" and not own and not test_ids and is_seen is not None and not any(map(is_seen, cases)):
        return [replace(case, split="test") for case in cases]
    if by == "auto":
        by = "source" if own else "hash"
    if by == "source" and (without := [case.id for case in cases if case.split is None and case.id not in test_ids]):
        raise InputError(
            f"data.split: {len(without)} of {len(cases)} cases, such as {without[0]}, have no split in the source; "
            "add train, val or test to each, or draw all splits by id with data.split.by=hash"
        )

    no_val = not any(case.split == "val" and case.id not in test_ids for case in cases)

    def split_of(case: Case) -> str | None:
        if case.id in test_ids:
            return "test"
        if by == "hash":
            return hashed_split(case.id, seed, val_share, test_share)
        return hashed_split(case.id, seed, val_share, 0) if no_val and case.split == "train" else case.split

    return [replace(case, split=split_of(case)) for case in cases]
