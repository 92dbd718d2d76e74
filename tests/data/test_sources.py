"""Sources: the registry, the RSNA layout as it is released, any table; annotations. Each bad row is reported."""

import subprocess
import sys
import tarfile
from functools import partial

import pandas as pd
import pytest
from PIL import Image

from baa.config import data_schema
from baa.data import annotations, sources
from baa.data.annotations import read_ids, with_annotations
from baa.data.cases import Box, parse_sex
from baa.data.sources import SOURCES
from baa.data.sources.rsna import read_rsna
from baa.data.sources.table import read_table
from baa.data.tables import read_rows
from baa.errors import InputError
from baa.patient import Sex


def test_the_schema_offers_every_source_and_each_is_described():
    assert set(SOURCES) == set(data_schema.SOURCES) == {"phantom", "rsna", "table"}
    for name, source in SOURCES.items():
        assert source.description, name
        assert source.licence != "", name


def test_the_registry_imports_neither_torch_nor_pandas():
    code = "import sys, baa.data.sources as s; list(s.SOURCES); print({'torch', 'pandas', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_new_file_is_a_new_source(tmp_path, monkeypatch):
    code = "from baa.data.sources import Source\nSOURCE = Source(lambda data: ([], []), 'our clinic', None)\n"
    for name in ("clinic.py", "_shared.py"):
        (tmp_path / name).write_text(code)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    monkeypatch.delattr(sources, "clinic", raising=False)

    assert set(SOURCES) - set(data_schema.SOURCES) == {"clinic"}
    assert SOURCES["clinic"].description == "our clinic"
    with pytest.raises(KeyError):
        SOURCES["_shared"]
    del sys.modules["baa.data.sources.clinic"]


def test_phantoms_are_read_by_their_settings():
    data = data_schema.DataConfig(source="phantom", phantom=data_schema.PhantomConfig(count=3, seed=5))
    cases, problems = SOURCES["phantom"].read(data)
    assert [case.id for case in cases] == ["phantom-5-0", "phantom-5-1", "phantom-5-2"]
    assert problems == []


@pytest.mark.parametrize(("source", "message"), {"rsna": "data.root is not", "table": "data.table.file is not"}.items())
def test_a_source_without_its_setting_is_refused(source, message):
    with pytest.raises(InputError, match=message):
        SOURCES[source].read(data_schema.DataConfig(source=source))


def picture(file, level=50):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 10), level).save(file)


def test_the_official_layout_nested_as_it_is_unzipped(tmp_path):
    (tmp_path / "train.csv").write_text("id,boneage,male\n1,180,True\n2,12,False\n")
    (tmp_path / "val.csv").write_text("Image ID,male,Bone Age (months)\n3,TRUE,100\n")
    test = pd.DataFrame({"Case ID": [4], "Sex": ["F"], "Ground truth bone age (months)": [99.5]})
    (tmp_path / "c").mkdir()
    test.to_excel(tmp_path / "c" / "Bone age ground truth.xlsx", index=False)
    for id_, folder in ((1, "a/a"), (2, "a/a"), (3, "b"), (4, "c")):
        picture(tmp_path / folder / f"{id_}.png")

    cases, problems = SOURCES["rsna"].read(data_schema.DataConfig(root=str(tmp_path)))
    assert problems == []
    assert {(case.id, case.months, case.sex, case.split) for case in cases} == {
        ("1", 180.0, Sex.MALE, "train"),
        ("2", 12.0, Sex.FEMALE, "train"),
        ("3", 100.0, Sex.MALE, "val"),
        ("4", 99.5, Sex.FEMALE, "test"),
    }


def test_images_in_a_tar_are_read_in_place(tmp_path):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    picture(tmp_path / "out" / "7.png")
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.add(tmp_path / "out" / "7.png", "t/7.png")
    pixels = (tmp_path / "out" / "7.png").read_bytes()
    (tmp_path / "out" / "7.png").unlink()

    (case,), problems = read_rsna(tmp_path)
    assert problems == []
    assert case.split is None
    assert pixels in case.image.fingerprint()
    assert case.image.load(16).width == 8


def test_two_images_of_one_name_are_a_bad_row(tmp_path):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n\n8,70,True\n")
    for name in ("images/7.png", "overlays/7.png", "images/8.png"):
        picture(tmp_path / name, level=len(name))

    (case,), (problem,) = read_rsna(tmp_path)
    assert case.id == "8"
    assert problem.place.endswith("line 2")
    assert "images/7.png and" in problem.reason
    assert "overlays/7.png" in problem.reason


def test_equal_copies_of_an_image_are_one_and_a_macs_attributes_are_none(tmp_path):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    for name in ("images/7.png", "copy/7.png"):
        picture(tmp_path / name)
    (tmp_path / "__MACOSX" / "images").mkdir(parents=True)
    for name in ("._t.csv", "__MACOSX/._t.csv", "__MACOSX/images/7.png", "images/._7.png"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")

    (case,), problems = read_rsna(tmp_path)
    assert problems == []
    assert case.image.path == tmp_path / "copy" / "7.png"


def test_ids_have_blanks_or_the_suffix_of_their_image(tmp_path):
    (tmp_path / "t.csv").write_text('id,boneage,male\n 7 ,60,False\n8.PNG,70,False\n9.0,80,True\n"10 ",90,True\n')
    for id_ in (7, 8, 9, 10):
        picture(tmp_path / f"{id_}.png")
    cases, problems = read_rsna(tmp_path)
    assert problems == []
    assert [(case.id, case.months) for case in cases] == [("7", 60.0), ("8", 70.0), ("9", 80.0), ("10", 90.0)]


def test_a_source_without_a_usable_case_gives_its_first_reasons_and_their_number(tmp_path):
    from baa.assembly.data import load_splits

    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n=8,x,False\n")
    data = data_schema.DataConfig(source="rsna", root=str(tmp_path), cache=str(tmp_path / "cache"), on_bad="skip")
    with pytest.raises(InputError, match=r"2 rows or images cannot be used(.|\n)*line 2: its image 7.\* is missing") as error:
        load_splits(data, tmp_path / "run")
    assert len(str(error.value).splitlines()) == 3
    listed = pd.read_csv(tmp_path / "run" / "refused.csv")
    assert list(listed.id) == ["7", "'=8"]


def test_every_bad_row_is_reported_with_file_and_line(tmp_path):
    rows = "1,60,True\n2,abc,True\n3,,False\n4,300,False\n5,60,perhaps\n6,60,True\n1,61,True\n"
    (tmp_path / "t.csv").write_text("id,boneage,male\n" + rows)
    for id_ in (1, 2, 3, 4, 5):
        picture(tmp_path / f"{id_}.png")

    cases, problems = read_rsna(tmp_path)
    assert cases == []
    assert [(p.id, p.place.rsplit(" ", 1)[-1]) for p in problems[:5]] == [
        ("2", "3"),
        ("3", "4"),
        ("4", "5"),
        ("5", "6"),
        ("6", "7"),
    ]
    for problem, reason in zip(
        problems,
        [
            "'abc' is not a number",
            "age is missing",
            "outside 0 to 240",
            "'perhaps'",
            "image 6.* is missing",
            "listed 2 times",
            "listed 2 times",
        ],
        strict=True,
    ):
        assert reason in problem.reason


WRITERS = {
    "csv": partial(pd.DataFrame.to_csv, index=False),
    "xlsx": partial(pd.DataFrame.to_excel, index=False),
    "parquet": pd.DataFrame.to_parquet,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_hospitals_own_table(tmp_path, suffix):
    table = pd.DataFrame({"file": ["x.png", "y.png"], "years": [10.5, 2.0], "gender": ["m", ""]})
    file = tmp_path / f"ours.{suffix}"
    WRITERS[suffix](table, file)
    for name in table["file"]:
        picture(tmp_path / "images" / name)

    columns = data_schema.TableConfig(file=str(file), image="file", months="years", sex="gender", age_unit="years")
    cases, problems = SOURCES["table"].read(data_schema.DataConfig(root=str(tmp_path / "images"), table=columns))
    assert problems == []
    assert [(c.id, c.months, c.sex) for c in cases] == [("x", 126.0, Sex.MALE), ("y", 24.0, Sex.UNKNOWN)]


@pytest.mark.parametrize("suffix", WRITERS)
def test_empty_cells_are_blank_and_unknown_splits_bad_rows_in_every_table(tmp_path, suffix):
    table = {"file": ["w.png", "x.png", "y.png", "z.png"], "months": [60.0, None, 70.0, 80.0]}
    table |= {"sex": [None, "f", "m", "m"], "part": [None, "train", "Validation", "fold 3"]}
    WRITERS[suffix](pd.DataFrame(table), tmp_path / f"ours.{suffix}")
    for name in table["file"]:
        picture(tmp_path / name)

    file = tmp_path / f"ours.{suffix}"
    cases, problems = read_table(file, image="file", months="months", sex="sex", split="part")
    assert [(case.id, case.sex, case.split) for case in cases] == [("w", Sex.UNKNOWN, None), ("y", Sex.MALE, "val")]
    assert [(problem.place[-1], problem.reason) for problem in problems] == [
        ("3", "age is missing"),
        ("5", "split 'fold 3' is none of train, val, test; to ignore the column, set data.table.split=null"),
    ]


def test_cells_beyond_the_last_column_shift_no_column(tmp_path):
    picture(tmp_path / "1.png")
    picture(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text("id,boneage,male\n1,60,True,\n2,70,False,\n")
    cases, problems = read_rsna(tmp_path)
    assert problems == []
    assert [(case.id, case.months) for case in cases] == [("1", 60.0), ("2", 70.0)]

    (tmp_path / "t.csv").write_text("id,boneage,male\n1,60,True,left\n2,70,False,right\n")
    with pytest.raises(InputError, match="t.csv cannot be read as a table: rows have 4 cells and the header has 3"):
        read_rsna(tmp_path)


def test_a_damaged_table_is_named(tmp_path):
    for name in ("t.parquet", "t.xlsx"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(InputError, match=f"{name} cannot be read as a table"):
            read_rows(tmp_path / name)


def test_a_missing_column_is_reported_with_the_present_ones(tmp_path):
    (tmp_path / "ours.csv").write_text("picture,age\n")
    with pytest.raises(InputError, match=r"data.table.image: .*no column 'image'; it has picture, age"):
        read_table(tmp_path / "ours.csv", image="image", months="age")


UNREADABLE = {"t.csv": b"\xff\xfe\x00", "t.xlsx": b"no workbook", "broken.xlsx": b"PK\x03\x04"}


@pytest.mark.parametrize(("name", "content"), UNREADABLE.items())
def test_a_table_that_cannot_be_read_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} cannot be read as a table"):
        read_rsna(tmp_path)


def test_the_box_of_a_region_is_the_union_of_its_annotated_parts(tmp_path):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    picture(tmp_path / "7.png")
    roi = tmp_path / "roi.txt"
    roi.write_text("id,region,xmin,ymin,xmax,ymax\n7,Wrist,.3,.6,.6,.8\n7,MCP,.2,.4,.3,.5\n7,DIP,.5,.1,.6,.2\n7,Ulna,0,0,1,1\n")
    (case,) = with_annotations(read_rsna(tmp_path)[0], roi, None)

    assert case.gt_boxes == {"carpal": Box(0.3, 0.6, 0.6, 0.8), "hand": Box(0.2, 0.1, 0.6, 0.5)}


def test_a_new_region_needs_one_entry(tmp_path, monkeypatch):
    monkeypatch.setitem(annotations.ANNOTATED, "fingers", ("PIP", "DIP"))
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n8,60,False\n")
    for id_ in (7, 8):
        picture(tmp_path / f"{id_}.png")
    roi = tmp_path / "roi.txt"
    roi.write_text("id,region,xmin,ymin,xmax,ymax\n7,PIP,.2,.3,.6,.5\n7,DIP,.5,.1,.7,.2\n")
    annotated, other = with_annotations(read_rsna(tmp_path)[0], roi, None)

    assert annotated.gt_boxes["fingers"] == annotated.gt_boxes["hand"] == Box(0.2, 0.1, 0.7, 0.5)
    assert other.gt_boxes == {}


def test_ids_are_stripped_and_refused_if_none_is_known(tmp_path):
    file = tmp_path / "ids.csv"
    file.write_text("id\n 7 \n9\n")
    assert read_ids(file, {"7", "8"}) == {"7", "9"}
    with pytest.raises(InputError, match=r"test_ids: no id in .*ids.csv belongs to a radiograph; its first id is '7'"):
        read_ids(file, {"7.png"})


def test_an_annotation_that_is_no_number_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    picture(tmp_path / "7.png")
    capitate = tmp_path / "points.txt"
    capitate.write_text("id,x,y\n7,0.5,\n")
    with pytest.raises(InputError, match=r"data.capitate: .*points.txt, id 7: could not convert"):
        with_annotations(read_rsna(tmp_path)[0], None, capitate)


BAD_ANNOTATIONS = {
    "7,Wrist,430,610,600,800": "id 7: 430 is not a share of the radiograph's side; divide pixels by its side",
    "7,Wrist,.6,.6,.3,.8": "id 7: Wrist has no area; xmin must be below xmax, ymin below ymax",
    "7,wrist,.3,.6,.6,.8": "id 7: region 'wrist' is unknown; use one of Wrist, MCP, PIP, DIP, Radius, Ulna",
}


@pytest.mark.parametrize(("row", "message"), BAD_ANNOTATIONS.items())
def test_an_annotation_that_cannot_be_right_is_refused(tmp_path, row, message):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    picture(tmp_path / "7.png")
    (tmp_path / "roi.txt").write_text(f"id,region,xmin,ymin,xmax,ymax\n{row}\n")
    with pytest.raises(InputError, match=message):
        with_annotations(read_rsna(tmp_path)[0], tmp_path / "roi.txt", None)


@pytest.mark.parametrize(("column", "yes", "no"), [("male", Sex.MALE, Sex.FEMALE), ("Female", Sex.FEMALE, Sex.MALE)])
def test_the_columns_name_defines_what_a_code_means(column, yes, no):
    assert [parse_sex(code, column) for code in ("1", "True", "0", "false", "F")] == [yes, yes, no, no, Sex.FEMALE]


@pytest.mark.parametrize("code", ["0", "1", "True"])
def test_a_code_in_a_column_of_another_name_is_a_bad_row(tmp_path, code):
    picture(tmp_path / "x.png")
    (tmp_path / "ours.csv").write_text(f"file,months,gender\nx.png,60,{code}\n")
    cases, (problem,) = read_table(tmp_path / "ours.csv", image="file", months="months", sex="gender")

    assert cases == []
    assert problem.reason == f"sex {code!r} is ambiguous in a column 'gender'; write male or female"
