"""From the settings of `data` to the radiographs of each split."""

from pathlib import Path

import pandas as pd
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from baa.atomic_io import write_whole
from baa.config.schema import Data
from baa.data.annotations import read_ids, with_truth
from baa.data.cache import Radiographs, open_cache
from baa.data.cases import SPLITS, Case, Problem, refusal
from baa.data.sources.phantom.phantom import phantom_cases
from baa.data.sources.table import read_rsna, read_table
from baa.data.splits import assign_splits
from baa.errors import InputError

FEWEST = 2


def read_cohort(data: Data, folder: Path) -> dict[str, Radiographs]:
    """Read the cases, decode or map their images, split them.

    Rows and images that cannot be used stop everything and are listed in `refused.csv`, or, by `data.on_bad=skip`, are set
    aside and listed in `skipped.csv`. Negatives that were turned are counted and listed in `inverted.csv`.

    Args:
        data: the settings.
        folder: where the lists go.

    Raises:
        InputError: a bad row or image, a source that is not there.
    """
    cases, problems = read_cases(data)
    known = {case.id for case in cases} | {problem.id for problem in problems}
    radiographs = open_cache(cases, folder=Path(data.cache), px=data.source_px, workers=data.workers)
    problems = problems + radiographs.problems
    if problems and data.on_bad == "stop":
        listed_in = folder / "refused.csv"
        _write_list(listed_in, _problem_table(problems))
        raise refusal(problems, listed_in)
    _list_oddities(folder, problems, radiographs.inverted)
    split = data.split
    test_ids = read_ids(Path(split.test_ids), known) if split.test_ids else frozenset()
    if unknown := sorted(test_ids - known):
        rank_zero_info(f"data.split.test_ids: {len(unknown)} of {len(test_ids)} ids are no radiograph's ({unknown[0]!r} ...)")
    cases = with_truth(
        radiographs.cases,
        Path(data.roi) if data.roi else None,
        Path(data.capitate) if data.capitate else None,
    )
    cases = assign_splits(
        cases,
        by=split.by,
        seed=split.seed,
        val_share=split.val,
        test_share=split.test,
        test_ids=test_ids,
    )
    radiographs = radiographs._replace(cases=cases)
    by_split = {name: radiographs.keep([case.split == name for case in cases]) for name in SPLITS}
    if data.limit is not None:
        by_split = {name: some.keep([i < data.limit for i in range(len(some.cases))]) for name, some in by_split.items()}
    return by_split


def refuse_untrainable(cohort: dict[str, Radiographs]) -> None:
    """Refuse a cohort whose ages have no spread to learn or to explain.

    Raises:
        InputError: fewer than two cases to train on or to choose by, or one of these without an age.
    """
    sizes = {split: len(radiographs.cases) for split, radiographs in cohort.items()}
    for split in ("train", "val"):
        if sizes[split] < FEWEST:
            raise InputError(f"data.split leaves {sizes[split]} of {sum(sizes.values())} cases to {split}, fewer than {FEWEST}")
        if ageless := [case for case in cohort[split].cases if case.months is None]:
            raise InputError(
                f"{len(ageless)} of {sizes[split]} cases of {split} have no age, such as {ageless[0].id}; "
                "data.table.months names the column of ages"
            )


def refuse_fewer_than_processes(cohort: dict[str, Radiographs], processes: int) -> None:
    """Refuse to judge a split that some process of the job would have no case of.

    Raises:
        InputError: a split that is judged, and is not empty, has fewer cases than there are processes.
    """
    for split, radiographs in cohort.items():
        if 0 < len(radiographs.cases) < processes:
            raise InputError(f"{split} has {len(radiographs.cases)} cases for {processes} processes; start fewer of them")


def read_cases(data: Data) -> tuple[list[Case], list[Problem]]:
    """The cases of a source, and the rows that are none."""
    if data.source == "phantom":
        return phantom_cases(data.phantom.count, seed=data.phantom.seed), []
    root = Path(data.root) if data.root else None
    if data.source == "rsna":
        if root is None:
            raise InputError("data.root is not given: the folder that holds the RSNA challenge's tables and images")
        return read_rsna(root)
    if data.table.file is None:
        raise InputError("data.table.file is not given: the CSV, Excel or Parquet file that names the images")
    return read_table(
        Path(data.table.file),
        images=root,
        image_column=data.table.image,
        id_column=data.table.id,
        months_column=data.table.months,
        sex_column=data.table.sex,
        split_column=data.table.split,
        age_unit=data.table.age_unit,
    )


def _list_oddities(folder: Path, problems: list[Problem], inverted: list[str]) -> None:
    said = {
        "skipped": ("bad rows or images set aside", _problem_table(problems)),
        "inverted": ("bright backgrounds turned dark", pd.DataFrame({"id": inverted})),
    }
    for name, (what, table) in said.items():
        if len(table):
            _write_list(folder / f"{name}.csv", table)
            rank_zero_info(f"{len(table)} {what}: {folder / f'{name}.csv'}")


def _problem_table(problems: list[Problem]) -> pd.DataFrame:
    return pd.DataFrame(problems, columns=Problem._fields)


@rank_zero_only
def _write_list(file: Path, table: pd.DataFrame) -> None:
    write_whole(file, table.to_csv(index=False))
