"""Build the radiographs of each split from the `data` settings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.atomic_io import write_atomic
from baa.config.data_schema import DataConfig
from baa.data.annotations import read_ids, with_annotations
from baa.data.cache import Radiographs, open_cache
from baa.data.cases import SPLITS, Problem, refusal
from baa.data.sources import SOURCES
from baa.data.splits import assign_splits
from baa.errors import InputError
from baa.names import safe_cell

FEWEST = 2
"""Cases that a split needs: ages of fewer have no spread to learn or to explain."""


def load_splits(
    data: DataConfig, folder: Path, *, is_seen: Callable[[Radiographs], np.ndarray] | None = None
) -> dict[str, Radiographs]:
    """Read the cases of a source, decode or map their images, and split them.

    A bad row or image is an error; `refused.csv` lists all. With `data.on_bad=skip` they are skipped and `skipped.csv` lists
    them. `inverted.csv` lists negatives, whose levels have been inverted.

    Args:
        data: the settings.
        folder: where the lists are written.
        is_seen: for a test of a model: which radiographs it has been trained or chosen on; see `assign_splits`.

    Raises:
        InputError: the source does not exist, has a bad row or image, or has nothing else.
    """
    cases, problems = SOURCES[data.source].read(data)
    known = {case.id for case in cases} | {problem.id for problem in problems}
    if problems and not cases:
        raise _refused(problems, folder)
    radiographs = open_cache(cases, folder=Path(data.cache), px=data.source_px, workers=data.workers)
    problems = problems + radiographs.problems
    if problems and (data.on_bad == "stop" or not radiographs.cases):
        raise _refused(problems, folder)
    _write_lists(folder, problems, radiographs.inverted)
    split = data.split
    test_ids = read_ids(Path(split.test_ids), known) if split.test_ids else frozenset()
    if unknown := sorted(test_ids - known):
        rank_zero_info(f"data.split.test_ids: {len(unknown)} of {len(test_ids)} ids have no radiograph ({unknown[0]!r} ...)")
    seen = {} if is_seen is None else dict(zip((case.id for case in radiographs.cases), is_seen(radiographs), strict=True))
    cases = with_annotations(
        radiographs.cases,
        Path(data.roi) if data.roi else None,
        Path(data.capitate) if data.capitate else None,
    )
    drawn = split.by != "source" and not any(case.split for case in cases)
    cases = assign_splits(
        cases,
        by=split.by,
        seed=split.seed,
        val_share=split.val,
        test_share=split.test,
        test_ids=test_ids,
        folds=split.folds,
        fold=split.fold,
        is_seen=None if is_seen is None else lambda case: bool(seen[case.id]),
    )
    if drawn and is_seen is not None:
        tested = sum(case.split == "test" for case in cases)
        how = f"all {tested} cases are tested, because the model was not trained or chosen on any"
        if tested < len(cases):
            how = f"{tested} of {len(cases)} cases, drawn by id, are tested (data.split); --split unseen takes all unseen cases"
        rank_zero_info(f"the source has no split of its own: {how}")
    radiographs = radiographs._replace(cases=cases)
    by_split = {name: radiographs.keep([case.split == name for case in cases]) for name in SPLITS}
    if data.limit is not None:
        by_split = {name: some.keep([i < data.limit for i in range(len(some.cases))]) for name, some in by_split.items()}
    return by_split


def first_batches(radiographs: Radiographs, batches: int | None, batch_size: int) -> Radiographs:
    """Keep the cases of the first batches; all if there is no limit."""
    count = len(radiographs.cases) if batches is None else batches * batch_size
    return radiographs.keep([i < count for i in range(len(radiographs.cases))])


def refuse_untrainable(splits: dict[str, Radiographs]) -> None:
    """Refuse splits that no model can be trained on.

    Raises:
        InputError: the training or validation split has fewer than `FEWEST` cases, or a case without an age; or all training
            cases have the same age.
    """
    sizes = {split: len(radiographs.cases) for split, radiographs in splits.items()}
    for split in ("train", "val"):
        if sizes[split] < FEWEST:
            raise InputError(
                f"data.split: {sizes[split]} of {sum(sizes.values())} cases in the split {split}; give it at least {FEWEST}, "
                "for example by data.split.val=0.25 data.split.test=0.2, or by a column that data.table.split names"
            )
        if ageless := [case for case in splits[split].cases if case.months is None]:
            raise InputError(
                f"data: {len(ageless)} of {sizes[split]} cases of the split {split} have no age, such as {ageless[0].id}; "
                "name the column of ages with data.table.months"
            )
    ages = {case.months for case in splits["train"].cases}
    if len(ages) == 1:
        raise InputError(
            f"data: all {sizes['train']} cases of the split train have the age {ages.pop():g} months, so there is nothing to "
            "learn; check the column of ages (data.table.months)"
        )


def refuse_fewer_than_processes(splits: dict[str, Radiographs], processes: int) -> None:
    """Refuse a split that leaves some process of the job without a case.

    Raises:
        InputError: a split has cases, but fewer than there are processes.
    """
    for split, radiographs in splits.items():
        if 0 < len(radiographs.cases) < processes:
            raise InputError(f"split {split}: {len(radiographs.cases)} cases for {processes} processes; start fewer processes")


def _refused(problems: list[Problem], folder: Path) -> InputError:
    listed_in = folder / "refused.csv"
    _write_list(listed_in, _problem_table(problems))
    return refusal(problems, listed_in)


def _write_lists(folder: Path, problems: list[Problem], inverted: list[str]) -> None:
    lists = {
        "skipped": ("bad rows or images skipped", _problem_table(problems)),
        "inverted": ("negatives inverted", pd.DataFrame({"id": list(map(safe_cell, inverted))})),
    }
    for name, (what, table) in lists.items():
        if len(table):
            _write_list(folder / f"{name}.csv", table)
            rank_zero_info(f"{len(table)} {what}: {folder / f'{name}.csv'}")


def _problem_table(problems: list[Problem]) -> pd.DataFrame:
    return pd.DataFrame([[safe_cell(text) for text in problem] for problem in problems], columns=Problem._fields)


@rank_zero_only
def _write_list(file: Path, table: pd.DataFrame) -> None:
    write_atomic(file, table.to_csv(index=False))
