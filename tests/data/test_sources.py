"""The RSNA layout as it is released, any table, and every bad row named at once."""

import tarfile
from functools import partial

import pandas as pd
import pytest
from PIL import Image

from baa.data.annotations import read_ids, with_truth
from baa.data.cases import Box, parse_sex
from baa.data.sources.table import read_rsna, read_table
from baa.data.tables import read_rows
from baa.errors import InputError
from baa.patient import Sex


def picture(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 10), 50).save(file)


def test_the_official_layout_nested_as_it_is_unzipped(tmp_path):
    (tmp_path / "train.csv").write_text("id,boneage,male\n1,180,True\n2,12,False\n")
    (tmp_path / "val.csv").write_text("Image ID,male,Bone Age (months)\n3,TRUE,100\n")
    test = pd.DataFrame({"Case ID": [4], "Sex": ["F"], "Ground truth bone age (months)": [99.5]})
    (tmp_path / "c").mkdir()
    test.to_excel(tmp_path / "c" / "Bone age ground truth.xlsx", index=False)
    for id_, folder in ((1, "a/a"), (2, "a/a"), (3, "b"), (4, "c")):
        picture(tmp_path / folder / f"{id_}.png")

    cases, problems = read_rsna(tmp_path)
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


def test_a_second_image_of_a_name_is_not_taken_for_the_radiograph(tmp_path):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n\n8,70,True\n")
    for name in ("images/7.png", "overlays/7.png", "images/8.png"):
        picture(tmp_path / name)

    (case,), (problem,) = read_rsna(tmp_path)
    assert case.id == "8"
    assert problem.place.endswith("line 2")
    assert "images/7.png and" in problem.reason
    assert "overlays/7.png" in problem.reason


def test_every_bad_row_is_named_with_file_and_line(tmp_path):
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
            "2 times",
            "2 times",
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

    cases, problems = read_table(
        file,
        images=tmp_path / "images",
        image_column="file",
        id_column=None,
        months_column="years",
        sex_column="gender",
        split_column=None,
        age_unit="years",
    )
    assert problems == []
    assert [(c.id, c.months, c.sex) for c in cases] == [("x", 126.0, Sex.MALE), ("y", 24.0, Sex.UNKNOWN)]


@pytest.mark.parametrize("suffix", WRITERS)
def test_empty_cells_are_blank_and_strange_splits_bad_rows_in_every_table(tmp_path, suffix):
    table = {"file": ["w.png", "x.png", "y.png", "z.png"], "months": [60.0, None, 70.0, 80.0]}
    table |= {"sex": [None, "f", "m", "m"], "part": [None, "train", "Validation", "fold 3"]}
    WRITERS[suffix](pd.DataFrame(table), tmp_path / f"ours.{suffix}")
    for name in table["file"]:
        picture(tmp_path / name)

    cases, problems = read_table(
        tmp_path / f"ours.{suffix}",
        images=None,
        image_column="file",
        id_column=None,
        months_column="months",
        sex_column="sex",
        split_column="part",
    )
    assert [(case.id, case.sex, case.split) for case in cases] == [("w", Sex.UNKNOWN, None), ("y", Sex.MALE, "val")]
    assert [(problem.place[-1], problem.reason) for problem in problems] == [
        ("3", "age is missing"),
        ("5", "split 'fold 3' is none of train, val, test; name no column of splits if they are not to count"),
    ]


def test_cells_beyond_the_last_column_move_none_into_another(tmp_path):
    picture(tmp_path / "1.png")
    picture(tmp_path / "2.png")
    (tmp_path / "t.csv").write_text("id,boneage,male\n1,60,True,\n2,70,False,\n")
    cases, problems = read_rsna(tmp_path)
    assert problems == []
    assert [(case.id, case.months) for case in cases] == [("1", 60.0), ("2", 70.0)]

    (tmp_path / "t.csv").write_text("id,boneage,male\n1,60,True,left\n2,70,False,right\n")
    with pytest.raises(InputError, match="t.csv is not a table that can be read: its rows have 4 cells under 3 names"):
        read_rsna(tmp_path)


def test_a_damaged_table_is_named(tmp_path):
    for name in ("t.parquet", "t.xlsx"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(InputError, match=f"{name} is not a table that can be read"):
            read_rows(tmp_path / name)


def test_a_wrong_column_is_named_with_those_there_are(tmp_path):
    (tmp_path / "ours.csv").write_text("picture,age\n")
    with pytest.raises(InputError, match=r"data.table.image: .*no column 'image'; it has picture, age"):
        read_table(
            tmp_path / "ours.csv",
            images=None,
            image_column="image",
            id_column=None,
            months_column="age",
            sex_column=None,
            split_column=None,
        )


UNREADABLE = {"t.csv": b"\xff\xfe\x00", "t.xlsx": b"no workbook", "broken.xlsx": b"PK\x03\x04"}


@pytest.mark.parametrize(("name", "content"), UNREADABLE.items())
def test_a_table_that_cannot_be_read_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name} is not a table that can be read"):
        read_rsna(tmp_path)


def test_true_boxes_are_the_wrist_and_the_union_of_the_finger_joints(tmp_path):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    picture(tmp_path / "7.png")
    roi = tmp_path / "roi.txt"
    roi.write_text("id,region,xmin,ymin,xmax,ymax\n7,Wrist,.3,.6,.6,.8\n7,MCP,.2,.4,.3,.5\n7,DIP,.5,.1,.6,.2\n7,Ulna,0,0,1,1\n")
    (case,) = with_truth(read_rsna(tmp_path)[0], roi, None)

    assert case.carpal == Box(0.3, 0.6, 0.6, 0.8)
    assert case.hand == Box(0.2, 0.1, 0.6, 0.5)


def test_ids_are_read_without_the_blanks_about_them_and_refused_where_none_is_known(tmp_path):
    file = tmp_path / "ids.csv"
    file.write_text("id\n 7 \n9\n")
    assert read_ids(file, {"7", "8"}) == {"7", "9"}
    with pytest.raises(InputError, match=r"test_ids: no id in .*ids.csv is one of the radiographs'; its first is '7'"):
        read_ids(file, {"7.png"})


def test_a_truth_that_is_no_number_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    picture(tmp_path / "7.png")
    capitate = tmp_path / "points.txt"
    capitate.write_text("id,x,y\n7,0.5,\n")
    with pytest.raises(InputError, match=r"data.capitate: .*points.txt, id 7: could not convert"):
        with_truth(read_rsna(tmp_path)[0], None, capitate)


NO_TRUTHS = {
    "7,Wrist,430,610,600,800": "id 7: 430 is no share of the radiograph; give pixels / its side",
    "7,Wrist,.6,.6,.3,.8": "id 7: its Wrist has no area; xmin lies before xmax, ymin before ymax",
    "7,wrist,.3,.6,.6,.8": "id 7: region 'wrist' is none of Wrist, MCP, PIP, DIP, Radius, Ulna",
}


@pytest.mark.parametrize(("row", "message"), NO_TRUTHS.items())
def test_a_mark_that_cannot_be_one_is_refused(tmp_path, row, message):
    (tmp_path / "t.csv").write_text("id,boneage,male\n7,60,False\n")
    picture(tmp_path / "7.png")
    (tmp_path / "roi.txt").write_text(f"id,region,xmin,ymin,xmax,ymax\n{row}\n")
    with pytest.raises(InputError, match=message):
        with_truth(read_rsna(tmp_path)[0], tmp_path / "roi.txt", None)


@pytest.mark.parametrize(("column", "yes", "no"), [("male", Sex.MALE, Sex.FEMALE), ("Female", Sex.FEMALE, Sex.MALE)])
def test_what_a_code_means_follows_from_the_columns_name(column, yes, no):
    assert [parse_sex(code, column) for code in ("1", "True", "0", "false", "F")] == [yes, yes, no, no, Sex.FEMALE]


@pytest.mark.parametrize("code", ["0", "1", "True"])
def test_a_code_in_a_column_of_another_name_is_a_bad_row(tmp_path, code):
    picture(tmp_path / "x.png")
    (tmp_path / "ours.csv").write_text(f"file,months,gender\nx.png,60,{code}\n")
    columns = {"image_column": "file", "id_column": None, "months_column": "months", "sex_column": "gender"}
    cases, (problem,) = read_table(tmp_path / "ours.csv", images=None, split_column=None, **columns)

    assert cases == []
    assert problem.reason == f"sex {code!r} may mean either in a column 'gender'; write male or female"
