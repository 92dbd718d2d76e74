"""Tables of any origin: encodings, delimiters, and files that are damaged, encrypted or far too large."""

import os
import zipfile

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from baa.data import tables, workbook
from baa.data.cases import parse_chronological, parse_months
from baa.data.tables import read_rows
from baa.errors import InputError

PLAIN = [["jörg.png", "10,5", "m"], ["x.png", "2", ""]]


def cells(file):
    frame = read_rows(file)
    assert list(frame) == ["file", "years", "sex"]
    return frame.to_numpy().tolist()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_text_is_read_in_each_encoding_and_with_each_delimiter(tmp_path, encoding, delimiter, newline):
    age = '"10,5"' if delimiter == "," else "10,5"
    lines = [["file", "years ", "sex"], ["jörg.png", age, "m"], ["x.png", "2", ""]]
    text = "".join(delimiter.join(line) + newline for line in lines)
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    assert cells(tmp_path / "t.csv") == PLAIN


def test_the_delimiter_is_that_of_the_header_outside_of_quotes_or_that_which_excel_declares(tmp_path):
    (tmp_path / "t.csv").write_text('file;"years, or, so, on";sex\nx.png;2;m\n')
    assert list(read_rows(tmp_path / "t.csv")) == ["file", "years, or, so, on", "sex"]
    (tmp_path / "t.csv").write_text("sep=|\nfile|years|sex\nx.png|2|m\n")
    frame = read_rows(tmp_path / "t.csv")
    assert frame.to_numpy().tolist() == [["x.png", "2", "m"]]
    assert frame.index[0].endswith("t.csv, line 3")


def test_the_index_is_the_place_of_each_row_and_blank_rows_and_columns_are_left_out(tmp_path):
    (tmp_path / "t.csv").write_text('\n,file,years,sex,\n\n0,x.png,2,m,\n  , ,\n1,"y\nz.png",3,f\n2,w.png,4\n')
    frame = read_rows(tmp_path / "t.csv")
    assert frame.to_numpy().tolist() == [["x.png", "2", "m"], ["y\nz.png", "3", "f"], ["w.png", "4", ""]]
    assert [place.rsplit(" ", 1)[1] for place in frame.index] == ["4", "6", "8"]


@pytest.mark.parametrize(
    ("text", "months"),
    {
        "10,5": 10.5,
        " 7 ": 7,
        "0,125": 0.125,
        "1.5e1": 15,
        ",5": 0.5,
        "1,200": None,
        "1_2": None,
        "nan": None,
        "1.2.3": None,
    }.items(),
)
def test_a_comma_may_be_a_decimal_point_but_not_if_it_may_separate_thousands(text, months):
    if months is None:
        with pytest.raises(ValueError, match="ambiguous|not a number"):
            parse_months(text)
    else:
        assert parse_months(text) == months


def test_a_chronological_age_of_zero_is_unknown_and_has_its_own_limit():
    assert [parse_chronological(text) for text in ("", " ", "0", "0,0", "000", "400", "0.1")] == [*[None] * 5, 400, 0.1]
    for text in ("-1", "1441", "000Y"):
        with pytest.raises(ValueError, match="outside 0 to 1440 months|not a number"):
            parse_chronological(text)


def sheet(rows, **far):
    book = openpyxl.Workbook()
    book.active.title = "Ages"
    for row in rows:
        book.active.append(row)
    for place, value in far.items():
        book.active[place] = value
    return book


def test_cells_of_a_workbook_are_text_as_excel_shows_them(tmp_path):
    rows = [[None], ["file", "years", "sex"], ["x.png", 10.0, "#REF!"], [None], [7, 2.5, True]]
    sheet(rows, XFD1048576=" ").save(tmp_path / "t.xlsx")
    frame = read_rows(tmp_path / "t.xlsx")
    assert frame.to_numpy().tolist() == [["x.png", "10", "#REF!"], ["7", "2.5", "True"]]
    assert list(frame.index) == [f"{tmp_path}/t.xlsx, sheet 'Ages', line {line}" for line in (3, 5)]


def test_a_parquet_file_has_no_lists_and_its_repeated_texts_are_kept_once(tmp_path):
    long = "x" * 100_000
    table = {"file": ["a", "b", None], "years": [60.0, None, 2.5], "raw": [b"\xff", b"b", None], "list": [[1], [2], []]}
    pq.write_table(pa.table(table | {"text": [long] * 3}), tmp_path / "t.parquet")
    frame = read_rows(tmp_path / "t.parquet")
    assert list(frame) == ["file", "years", "raw", "text"]
    assert frame[["file", "years", "raw"]].to_numpy().tolist() == [["a", "60.0", "\\xff"], ["b", "", "b"], ["", "2.5", ""]]
    assert frame.text.iloc[0] is frame.text.iloc[2]


def huge_parquet(file):
    pq.write_table(pa.table({"file": pa.array(["x"] * 2_000_000).dictionary_encode()}), file, compression="zstd")


def encrypted(file):
    sheet([["file"]]).save(file)
    data = bytearray(file.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(signature)
        while place >= 0:
            data[place + flags] |= 1
            place = data.find(signature, place + 1)
    file.write_bytes(data)


def inflated(file):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("xl/sharedStrings.xml", "w") as part:
        for _ in range(6):
            part.write(bytes(1 << 20))


def cut(file):
    sheet([["file"]]).save(file)
    os.truncate(file, file.stat().st_size // 2)


def write(content):
    return lambda file: file.write_bytes(content)


HOSTILE = {
    "duplicate.csv": (write(b"file,sex,sex \nx.png,female,male\n"), "two columns are named 'sex'; rename or remove one"),
    "duplicate.xlsx": (sheet([["sex", "sex "]]).save, "sheet 'Ages': two columns are named 'sex'"),
    "duplicate.parquet": (lambda file: pq.write_table(pa.table({"a": [1], " a": [2]}), file), "two columns are named 'a'"),
    "quote.csv": (write(b'file,sex\n"x.png,m\ny.png,f\n'), "line 2: unexpected end of data"),
    "long.csv": (write(b"file\n" + b"x" * (1 << 21)), "a line has 2,097,152 characters"),
    "rows.csv": (write(b"a\n" + b"1\n" * 2000), "more than 1,000 rows; split it"),
    "columns.csv": (write(b",".join(b"%d" % i for i in range(20_000))), "20,000 columns; the limit is 16,384"),
    "binary.csv": (write(b"file,sex\n\0\0\0"), "holds NUL"),
    "bytes.csv": (write(b"file\n\x81\xff"), "its encoding is none of"),
    "odd.csv": (write(b"\xff\xfeabc"), "truncated data"),
    "empty.csv": (write(b"\n ,\n"), "it is empty"),
    "empty.xlsx": (sheet([]).save, "sheet 'Ages': it is empty"),
    "workbook.csv": (write(b"PK\x03\x04"), "name a workbook .xlsx"),
    "old.xls": (write(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "password, or an old workbook"),
    "password.xlsx": (write(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "password, or an old workbook"),
    "zipped.csv.gz": (write(b"\x1f\x8b\x08"), "it is compressed; unpack it"),
    "encrypted.xlsx": (encrypted, "encrypted"),
    "cut.xlsx": (cut, "not a zip file"),
    "bomb.xlsx": (inflated, "unpacks to 6 MiB; the limit is 5"),
    "wide.xlsx": (sheet([["a"]], D2="x").save, "sheet 'Ages': rows have 4 cells and the header has 1, first in line 2"),
    "rows.parquet": (huge_parquet, "2,000,000 rows"),
    "cut.parquet": (write(b"PAR1 and no more"), "magic bytes not found"),
    "pipe.csv": (os.mkfifo, "not a regular file"),
    "zeros.csv": (lambda file: file.symlink_to("/dev/zero"), "not a regular file"),
    "folder.csv": (lambda file: file.mkdir(), "Is a directory|not a regular file"),
    "loop.csv": (lambda file: file.symlink_to(file), "Too many levels of symbolic links"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_that_cannot_be_right_is_refused_in_one_line_with_its_name(tmp_path, name, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROWS", 1000)
    monkeypatch.setattr(workbook, "MAX_UNPACKED_BYTES", 5 << 20)
    make, reason = HOSTILE[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=f"{name} cannot be read as a table: .*({reason})") as error:
        read_rows(tmp_path / name)
    assert len(str(error.value).splitlines()) == 1


def test_many_far_cells_are_refused_before_they_are_read(tmp_path):
    sheet([["file"]]).save(tmp_path / "base.xlsx")
    rows = "".join(f'<row r="{i}"><c r="XFD{i}" t="inlineStr"><is><t> </t></is></c></row>' for i in range(2, 2000))
    for name, more in (("far.xlsx", rows), ("deep.xlsx", '<row r="4000000000"><c r="A4000000000"><v>1</v></c></row>')):
        with zipfile.ZipFile(tmp_path / "base.xlsx") as base, zipfile.ZipFile(tmp_path / name, "w", 8) as made:
            for part in base.namelist():
                content = base.read(part).decode()
                made.writestr(part, content.replace("</sheetData>", f"{more}</sheetData>") if "sheet1" in part else content)
        with pytest.raises(InputError, match="sheet 'Ages' has cells too far down or to the right"):
            read_rows(tmp_path / name)


def test_an_error_cell_is_a_bad_age_with_its_sheet_and_line(tmp_path):
    from baa.data.sources.table import read_table

    sheet([["file", "months"], ["x", "#REF!"]]).save(tmp_path / "t.xlsx")
    cases, (problem,) = read_table(tmp_path / "t.xlsx", image="file", months="months")
    assert cases == []
    assert (problem.place, problem.reason) == (f"{tmp_path}/t.xlsx, sheet 'Ages', line 2", "age '#REF!' is not a number")


@pytest.mark.parametrize("name", ["x\0y", "x" * 300, "a\\x.png", "/dev/zero", "..", "pipe.png"])
def test_a_cell_that_names_no_regular_file_is_a_bad_row(tmp_path, name):
    from baa.data.sources.table import read_table

    os.mkfifo(tmp_path / "pipe.png")
    pd.DataFrame({"file": [name]}).to_parquet(tmp_path / "t.parquet")
    cases, (problem,) = read_table(tmp_path / "t.parquet", image="file")
    assert cases == []
    assert "is missing" in problem.reason
