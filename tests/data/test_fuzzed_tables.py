"""A table with other bytes is read, or refused in one line that names it, soon and with little memory."""

import io
import logging
import resource
import time
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest
from fuzzed import with_other_bytes

from baa.data.cases import Case, Problem
from baa.data.sources.table import read_table
from baa.data.tables import read_rows
from baa.errors import InputError

COUNT, SECONDS, GIB = 1000, 5.0, 1 << 30

ROWS = pd.DataFrame(
    {"file": [f"{i}.png" for i in range(40)], "months": [f"{3 * i}.5" for i in range(40)], "sex": ["male", "F"] * 20}
)


def tables():
    """The same table in each format, as bytes by name."""
    book, parquet = io.BytesIO(), io.BytesIO()
    sheet = openpyxl.Workbook()
    for row in (list(ROWS), *ROWS.to_numpy().tolist()):
        sheet.active.append(row)
    sheet.save(book)
    ROWS.to_parquet(parquet)
    return {
        "comma.csv": ROWS.to_csv(index=False).encode(),
        "semicolon.csv": ROWS.to_csv(index=False, sep=";").encode("cp1252"),
        "tab.csv": ROWS.to_csv(index=False, sep="\t").encode("utf-16"),
        "archive.xlsx": book.getvalue(),
        "parts.xlsx": book.getvalue(),
        "table.parquet": parquet.getvalue(),
    }


def changed(name, data, rng):
    """Change bytes of a table; of `parts.xlsx`, those of a part before it is packed."""
    if not name.startswith("parts"):
        return with_other_bytes(data, rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        parts = whole.namelist()
        hit = parts[int(rng.integers(len(parts)))]
        for part in parts:
            content = whole.read(part)
            packed.writestr(part, with_other_bytes(content, rng) if part == hit else content)
    return stream.getvalue()


@pytest.mark.slow
def test_no_table_of_a_thousand_ends_or_stalls_a_command(tmp_path):
    rng, whole, refused = np.random.default_rng(0), list(tables().items()), 0
    for i in range(COUNT):
        name, data = whole[i % len(whole)]
        file = tmp_path / f"{i}_{name}"
        file.write_bytes(changed(name, data, rng))
        start, refusal = time.process_time(), None
        try:
            assert list(read_rows(file))
            cases, problems = read_table(file, image="file", months="months", sex="sex")
            assert {type(entry) for entry in (*cases, *problems)} <= {Case, Problem}
        except InputError as error:
            refusal = str(error)
        assert refusal is None or (str(file) in refusal and len(refusal.splitlines()) == 1)
        refused += refusal is not None
        assert time.process_time() - start < SECONDS, file.name
    logging.getLogger(__name__).info("%d tables, %d refused", COUNT, refused)
    assert 100 < refused < COUNT - 50
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 2 * GIB
