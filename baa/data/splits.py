"""The split of each case, by its id, its patient or its source; and the folds of a cross-validation."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from baa.data.cases import Case
from baa.errors import InputError

BAND_MONTHS = 24
"""Width of the age bands that are spread evenly over folds."""


def _hashed(group: str, seed: int) -> float:
    """A number in [0, 1) that depends on a group's name and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8], "big") / 2**64


def hashed_split(group: str, seed: int, val_share: float, test_share: float) -> str:
    """Return the split of an id or a patient. It is the same on every machine and does not depend on other cases.

    Example:
        >>> [hashed_split(str(id_), seed=0, val_share=0.25, test_share=0.25) for id_ in range(4)]
        ['train', 'train', 'train', 'val']
    """
    share = _hashed(group, seed)
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
    folds: int | None = None,
    fold: int = 0,
    is_seen: Callable[[Case], bool] | None = None,
) -> list[Case]:
    """Give each case its split. All radiographs of a patient get the same one.

    If the source's split has no validation cases, they are drawn from its training cases.

    Args:
        cases: as a source returned them.
        by: `source` (official files or a column), `hash` (of the id), or `auto`: `source` if any case has a split, else `hash`.
        seed, val_share, test_share: parameters of the hash.
        test_ids: ids that are always in the test split, with all radiographs of their patients.
        folds, fold: of a cross-validation: all cases outside the test split are dealt into folds, and one of these is the
            validation split.
        is_seen: for a test of a model: whether the model was trained or chosen on a case. If it has seen no case, a source
            without a split of its own is tested whole instead of by hash; `by` must be `auto`.

    Raises:
        InputError: `by` is `source` and a case has no split, or a patient has radiographs in two splits of the source.

    Example:
        >>> from baa.data.sources.phantom import phantom_cases
        >>> cases = assign_splits(phantom_cases(100, seed=0), val_share=0.2, test_share=0.2)
        >>> [sum(case.split == split for case in cases) for split in ("train", "val", "test")]
        [64, 12, 24]
    """
    own = any(case.split for case in cases)
    if by == "auto" and not own and not test_ids and is_seen is not None and not any(map(is_seen, cases)):
        return [replace(case, split="test") for case in cases]
    if by == "auto":
        by = "source" if own else "hash"
    tested = {case.group for case in cases if case.id in test_ids}
    if by == "source":
        _refuse_divided_patients([case for case in cases if case.group not in tested])
    if by == "source" and (without := [case.id for case in cases if case.split is None and case.id not in test_ids]):
        raise InputError(
            f"data.split: {len(without)} of {len(cases)} cases, such as {without[0]}, have no split in the source; "
            "add train, val or test to each, or draw all splits by id with data.split.by=hash"
        )

    no_val = not any(case.split == "val" and case.id not in test_ids for case in cases)

    def split_of(case: Case) -> str | None:
        if case.group in tested:
            return "test"
        if by == "hash":
            return hashed_split(case.group, seed, val_share, test_share)
        return hashed_split(case.group, seed, val_share, 0) if no_val and case.split == "train" else case.split

    assigned = [replace(case, split=split_of(case)) for case in cases]
    others = [case for case in assigned if case.split != "test"]
    if folds is None or (is_seen is not None and len({case.group for case in others}) < folds):
        return assigned
    dealt = deal_folds(others, folds, seed)
    names = {group: "val" if own == fold else "train" for group, own in dealt.items()}
    return [replace(case, split=names.get(case.group, "test")) for case in assigned]


def deal_folds(cases: Sequence[Case], folds: int, seed: int = 0) -> dict[str, int]:
    """Deal cases into folds of nearly equal size, with nearly equal shares of each sex and age band.

    Unlike a hashed split, a fold depends on the other cases.

    Args:
        cases: to deal; all radiographs of a patient go to one fold.
        folds: number of folds.
        seed: of the order in which they are dealt.

    Returns:
        The fold of each `Case.group`.

    Raises:
        InputError: fewer groups than folds.
    """
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    if len(groups) < folds:
        raise InputError(f"data.split.folds: {len(groups)} cases or patients for {folds} folds; give fewer folds")
    order = sorted(groups, key=lambda group: (-len(groups[group]), _hashed(group, seed), group))
    strata = {group: min(map(_stratum, groups[group])) for group in order}
    sizes: Counter[int] = Counter()
    of_stratum: Counter[tuple[tuple[int, float], int]] = Counter()
    dealt = {}
    for group in order:
        stratum = strata[group]
        dealt[group] = min(range(folds), key=lambda one: (of_stratum[stratum, one], sizes[one], one))
        of_stratum[stratum, dealt[group]] += len(groups[group])
        sizes[dealt[group]] += len(groups[group])
    return dealt


def _stratum(case: Case) -> tuple[int, float]:
    return int(case.sex), -1.0 if case.months is None else case.months // BAND_MONTHS


def _refuse_divided_patients(cases: Sequence[Case]) -> None:
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(case.group, case)
        if other.split != case.split:
            raise InputError(
                f"data.table.patient: {case.patient} has radiographs in {other.split} ({other.id}) and "
                f"{case.split} ({case.id}); give all of a patient the same split"
            )
