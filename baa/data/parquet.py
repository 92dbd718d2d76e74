"""Read a Parquet file, row by row."""

from collections.abc import Iterator
from itertools import count
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from baa.data.rows import MAX_CELLS, MAX_ROWS, MAX_UNPACKED_BYTES, Row, Rows

BATCH_ROWS = 8192


def parquet_rows(handle: BinaryIO) -> Rows:
    """Return the rows of a Parquet file; the first holds the names. Columns of lists, structures or maps are left out.

    Raises:
        ValueError: it is too large. Its size is known before it is unpacked.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     pq.write_table(pa.table({"id": ["a"], "age": [120]}), file)
        ...     _, rows = parquet_rows(file)
        ...     list(rows)
        [(1, ['id', 'age']), (2, ['a', '120'])]
    """
    declared = pq.ParquetFile(handle)
    flat = [field.name for field in declared.schema_arrow if not pa.types.is_nested(field.type)]
    texts = [field.name for field in declared.schema_arrow if _is_text(field.type)]
    height = declared.metadata.num_rows
    if height > MAX_ROWS or height * len(flat) > MAX_CELLS:
        raise ValueError(
            f"it has {height:,} rows of {len(flat)} columns; the limits are {MAX_ROWS:,} rows, {MAX_CELLS:,} cells"
        )
    groups = (declared.metadata.row_group(group) for group in range(declared.metadata.num_row_groups))
    if (size := sum(group.total_byte_size for group in groups)) > MAX_UNPACKED_BYTES:
        raise ValueError(f"it unpacks to {size >> 20:,} MiB; the limit is {MAX_UNPACKED_BYTES >> 20}")
    return "", _rows(pq.ParquetFile(handle, read_dictionary=texts), flat)  # a text that is repeated is kept once


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_binary(kind)


def _rows(table: pq.ParquetFile, names: list[str]) -> Iterator[Row]:
    yield 1, names
    lines = count(2)
    for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=names):
        columns = [_texts(batch.column(name)) for name in names]
        for cells in zip(*columns, strict=True):
            yield next(lines), list(cells)


def _texts(column: pa.Array) -> list[str]:
    if isinstance(column, pa.DictionaryArray):
        texts = _texts(column.dictionary)
        return ["" if place is None else texts[place] for place in column.indices.to_pylist()]
    return [_text(value) for value in column.to_pylist()]


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
