"""Rows of a table to cases. Sources that read tables share this."""

from collections import Counter
from collections.abc import Callable

import pandas as pd

from baa.data.cases import Case, CaseList, Problem, parse_months, parse_sex, parse_split
from baa.data.read.file import ImageFile
from baa.errors import InputError
from baa.patient import Sex


def rows_to_cases(
    table: pd.DataFrame,
    find_image: Callable[[dict[str, str]], ImageFile | None],
    *,
    sex_column: str,
    months_per_unit: float = 1.0,
) -> CaseList:
    """Parse every row of a table.

    Args:
        table: columns `id` and optionally `months`, `sex`, `split`, `patient`, all text; the index is each row's place, for
            messages.
        find_image: row -> its image, or None. It raises ValueError if the row has no single one.
        sex_column: the name of the sex column in the file; `parse_sex` needs it.
        months_per_unit: months per unit of the age column.
    """
    cases, problems = [], []
    rows: list[dict[str, str]] = table.to_dict("records")  # type: ignore[assignment]
    for place, row in zip(table.index, rows, strict=True):
        id_ = row["id"].strip()
        try:
            if not id_:
                raise ValueError("id is missing")
            months = parse_months(row["months"], months_per_unit) if "months" in row else None
            sex = parse_sex(row["sex"], sex_column) if "sex" in row else Sex.UNKNOWN
            split = parse_split(row["split"]) if "split" in row else None
            image = find_image(row)
            if image is None:
                raise ValueError(f"its image {row.get('image') or row['id'] + '.*'} is missing")
        except (InputError, OSError, ValueError) as error:  # equal copies of an image are compared
            problems.append(Problem(id_, place, str(error)))
            continue
        cases.append(Case(id_, image, months, sex, split, patient=row.get("patient", "").strip()))
    return cases, problems


def drop_duplicates(cases: list[Case], problems: list[Problem]) -> CaseList:
    """Turn every case whose id is not unique into a problem: which of its rows is right is unknown."""
    times = Counter(case.id for case in cases)
    repeated = [
        Problem(case.id, case.image.name, f"id is listed {times[case.id]} times") for case in cases if times[case.id] > 1
    ]
    return [case for case in cases if times[case.id] == 1], problems + repeated
