"""Which files a prediction reads, and where sex and age of each patient come from."""

import io
import os
import unicodedata

import numpy as np
import pydicom
import pytest
import torch
from dicom_file import dicom
from PIL import Image

from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError
from baa.inference.files import FileDataset
from baa.inference.inputs import UNNAMED, InputFile, with_table
from baa.inference.listing import find_images
from baa.patient import Sex


@pytest.fixture
def films(tmp_path):
    """a/hand.png, a/notes.txt, b/hand.png and b/IM0001, a DICOM file of a boy of ten."""
    pixels = phantom_cases(1, seed=3)[0].image.load(40).pixels[:, 5:-5]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "hand.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "IM0001").write_bytes(dicom(pixels, PatientSex="M", PatientAge="010Y"))
    return tmp_path


def names(files, folder):
    return [str(file.relative_to(folder)) for file in files]


def test_folders_patterns_and_files_are_found_in_order_and_once(films):
    assert names(find_images([films]).files, films) == ["a/hand.png", "b/IM0001", "b/hand.png"]
    assert names(find_images([films / "b" / "hand.png", films / "*"]).files, films) == ["b/hand.png", "a/hand.png", "b/IM0001"]
    assert names(find_images([films / "**" / "*.png"]).files, films) == ["a/hand.png", "b/hand.png"]
    assert names(find_images([films / "a" / "notes.txt"]).files, films) == ["a/notes.txt"]  # to be a row with its reason


def test_overlays_of_an_earlier_prediction_are_left_out(films):
    drawn = films / "b"
    for given in ([films], [films / "**" / "*.png"], [films / "*"]):
        assert names(find_images(given, drawn).files, films) == ["a/hand.png"]
    assert names(find_images([films / "b" / "hand.png"], drawn).files, films) == ["b/hand.png"]


def test_dicom_files_are_found_whatever_their_names(films):
    film = films / "b" / "IM0001"
    film.rename(films / "b" / "1.2.840.113619.2.5.1762")
    (films / "b" / "DICOMDIR").write_bytes((films / "b" / "1.2.840.113619.2.5.1762").read_bytes())
    assert names(find_images([films / "b"]).files, films) == ["b/1.2.840.113619.2.5.1762", "b/hand.png"]


@pytest.mark.parametrize("kind", ["no preamble", "no meta", "big endian without meta"])
def test_old_archives_without_a_suffix_are_found_in_a_folder_and_read(films, kind):
    film = (films / "b" / "IM0001").read_bytes()
    if kind == "no preamble":
        old = film[132:]
    else:
        dataset, stream = pydicom.dcmread(io.BytesIO(film)), io.BytesIO()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        big = kind.startswith("big")
        pydicom.dcmwrite(stream, dataset, implicit_vr=not big, little_endian=not big, enforce_file_format=False)
        old = stream.getvalue()
    (films / "b" / "IM0001").write_bytes(old)
    found = find_images([films])
    assert names(found.files, films) == ["a/hand.png", "b/IM0001", "b/hand.png"]
    plain, sample, _ = FileDataset([InputFile(file) for file in found.files], range(3), 64)
    assert sample.error == ""
    assert torch.equal(sample.image, plain.image)
    assert (sample.sex, sample.months) == (Sex.MALE, 120)


def test_a_missing_file_and_a_folder_without_images_are_refused(films):
    with pytest.raises(InputError, match="is not a valid pattern"):
        find_images([films / "**.png"])
    for given in (films / "c.png", films / "*.bmp"):
        with pytest.raises(InputError, match="does not exist; give image files"):
            find_images([given])
    (films / "c").mkdir()
    with pytest.raises(InputError, match="no image in this folder"):
        find_images([films / "c"])


def test_a_table_gives_sex_and_age_by_path_or_by_name(films, tmp_path):
    files = find_images([films]).files
    (tmp_path / "t.csv").write_text(f"file,sex,age_months\nIM0001,F,400\n{files[0]},boy,\nother.png,M,7\n")
    inputs, left_out = with_table(files, tmp_path / "t.csv")
    assert inputs == [
        InputFile(files[0], Sex.MALE, None, "table"),
        InputFile(files[1], Sex.FEMALE, 400.0, "table"),  # an adult: a warning, not an error
        InputFile(files[2], note=UNNAMED),
    ]
    assert left_out == [(f"{tmp_path / 't.csv'}, line 4", "'other.png' names none of these files")]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("file,sex\nhand.png,M\n", r"t.csv, line 2: hand.png matches 2 files"),
        ("file,sex\nIM0001,M\nIM0001,F\n", r"t.csv, line 3: IM0001 is listed twice"),
        ("file,sex\nIM0001,x\n", r"line 2: sex 'x' is none of"),
        ("file,sex,age_months\nIM0001,M,old\n", r"line 2: age 'old' is not a number"),
        ("file,sex,age_months\nIM0001,M,1500\n", r"line 2: age '1500' is outside 0 to 1440 months"),
        ("name,sex\nIM0001,M\n", "has no column file"),
        ("file,sex\nIM0001.dcm,M,\n", "no row of .* matches one of these files; its first file is 'IM0001.dcm'"),
        ("file,sex\n\nIM0001,x\n", r"line 3: sex 'x' is none of"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_its_line(films, tmp_path, rows, reason):
    (tmp_path / "t.csv").write_text(rows)
    with pytest.raises(InputError, match=reason):
        with_table(find_images([films]).files, tmp_path / "t.csv")


def test_the_caller_overrides_the_header_and_a_difference_is_noted(films):
    film = films / "b" / "IM0001"
    inputs = [
        InputFile(film),
        InputFile(film, Sex.FEMALE, 77.0, "table"),
        InputFile(films / "a" / "hand.png"),
        InputFile(film, Sex.UNKNOWN),
    ]
    samples = list(FileDataset(inputs, range(4), 32))

    assert [Sex(int(sample.sex)) for sample in samples] == [Sex.MALE, Sex.FEMALE, Sex.UNKNOWN, Sex.UNKNOWN]
    assert [sample.sex_source for sample in samples] == ["file", "table", "", ""]
    assert [sample.notes for sample in samples] == ["", "the file's sex is male", "", "the file's sex is male"]
    torch.testing.assert_close(
        torch.stack([sample.months for sample in samples]), torch.tensor([120.0, 77.0, torch.nan, 120.0]), equal_nan=True
    )


def test_an_array_and_the_bytes_of_a_file_are_read_as_the_file(films):
    hand, film = films / "a" / "hand.png", films / "b" / "IM0001"
    levels = np.asarray(Image.open(hand))
    inputs = [InputFile(hand), InputFile(hand, content=levels), InputFile(film), InputFile(film, content=film.read_bytes())]
    from_file, array, dicom_file, in_memory = FileDataset(inputs, range(4), 64)

    assert torch.equal(from_file.image, array.image)
    assert torch.equal(from_file.frame, array.frame)
    assert torch.equal(dicom_file.image, in_memory.image)
    assert in_memory.sex == Sex.MALE
    assert in_memory.months == 120
    assert [given.name for given in inputs] == [str(hand), "", str(film), ""]


def test_a_file_that_cannot_be_read_is_a_black_sample_with_the_reason(films):
    inputs = [InputFile(films / "c.png"), InputFile(films), InputFile(films / "a" / "notes.txt")]
    samples = list(FileDataset(inputs, range(3), 64))
    assert [sample.error for sample in samples] == [
        "No such file or directory",
        "Is a directory",
        "not an image in PNG, JPEG, TIFF, WebP, BMP or DICOM",
    ]
    assert not any(sample.image.any() for sample in samples)


def test_each_file_of_a_folder_that_is_not_read_is_listed_with_its_reason(films):
    (films / "__MACOSX").mkdir()
    for name in ("._hand.png", "__MACOSX/hand.png", "b/._IM0001", "b/DICOMDIR"):
        (films / name).write_bytes(b"\0\5\26\7")
    os.mkfifo(films / "b" / "pipe")
    os.mkfifo(films / "b" / "pipe.png")
    (films / "b" / "gone.png").symlink_to(films / "nothing")  # its row will say so
    (films / "b" / "loop.png").symlink_to(films / "b" / "loop.png")
    (films / "b" / "again").symlink_to(films)

    found = find_images([films])
    assert names(found.files, films) == ["a/hand.png", "b/IM0001", "b/gone.png", "b/hand.png", "b/loop.png"]
    assert {str(name).removeprefix(f"{films}/"): reason.split()[0] for name, reason in found.left_out} == {
        "._hand.png": "attributes",
        "__MACOSX/hand.png": "attributes",
        "a/notes.txt": "neither",
        "b/._IM0001": "attributes",
        "b/DICOMDIR": "a",
        "b/again": "a",
        "b/pipe": "not",
        "b/pipe.png": "not",
    }
    assert [name for name, _ in find_images([films / "**" / "*IM*"]).left_out] == [f"{films}/b/._IM0001"]
    for place in (films / "b" / "pipe", films / "b" / "pipe.png"):
        place.unlink()
    errors = [sample.error for sample in FileDataset([InputFile(file) for file in found.files], range(5), 64)]
    assert errors == ["", "", "No such file or directory", "", "Too many levels of symbolic links"]


def test_a_folder_without_an_image_is_refused_with_what_is_in_it(films):
    (films / "a" / "hand.png").unlink()
    with pytest.raises(InputError, match=r"no image in this folder; 1 files are left out, such as .*notes.txt: neither"):
        find_images([films / "a"])
    with pytest.raises(InputError, match="does not exist"):
        find_images([films / ("x" * 300)])


def test_a_row_may_differ_from_its_file_in_unicode_form_capitals_and_separators(films):
    (films / "b" / "hand.png").rename(films / "b" / unicodedata.normalize("NFD", "Jörg Hand.PNG"))
    files = find_images([films]).files
    table = films / "t.csv"
    table.write_text("file,sex\nJÖRG HAND.png ,F\nA\\HAND.PNG,M\nim0001,F\nB/hand.png,M\n", encoding="utf-8")
    inputs, left_out = with_table(files, table)
    assert {given.file.name: given.sex for given in inputs if given.file.parent.name == "b"} == {
        "IM0001": Sex.FEMALE,
        unicodedata.normalize("NFD", "Jörg Hand.PNG"): Sex.FEMALE,
    }
    assert [given.sex for given in inputs if given.file.parent.name == "a"] == [Sex.MALE]
    assert [entry.reason for entry in left_out] == ["'B/hand.png' names none of these files"]


def test_exact_names_go_first_and_ambiguous_ones_are_refused(films):
    (films / "a" / "HAND.png").write_bytes(b"")
    files = find_images([films / "a"]).files
    table = films / "t.csv"
    table.write_text("file,sex\nhand.png,M\nHAND.png,F\nHand.png,M\n")
    inputs, left_out = with_table(files, table)
    assert {given.file.name: given.sex for given in inputs} == {"hand.png": Sex.MALE, "HAND.png": Sex.FEMALE}
    assert [place[-1] for place, _ in left_out] == ["4"]
    table.write_text("file,sex\nHand.png,M\n")
    with pytest.raises(InputError, match="line 2: Hand.png matches 2 files"):
        with_table(files, table)
    table.write_text("file,sex\n/elsewhere/a/hand.png,M\n")
    with pytest.raises(InputError, match="no row"):
        with_table(files, table)


def test_a_file_that_the_table_does_not_name_has_a_note_and_an_age_of_zero_is_unknown(films):
    files = find_images([films]).files
    (films / "t.csv").write_text("file;sex;age_months\nIM0001;F;0\na/hand.png;M;120,5\n")
    inputs, _ = with_table(files, films / "t.csv")
    assert [given.months for given in inputs] == [120.5, None, None]
    samples = list(FileDataset(inputs, range(3), 64))
    assert [UNNAMED in sample.notes for sample in samples] == [False, False, True]


def test_an_unexpected_exception_of_one_file_is_its_error(films, monkeypatch):
    from baa.inference import files

    decode, hand = files.decode_input, films / "a" / "hand.png"

    def planted(given, px):
        if given.file == hand:
            raise KeyError("PLANTED^NAME")
        return decode(given, px)

    monkeypatch.setattr(files, "decode_input", planted)
    errors = [sample.error for sample in FileDataset([InputFile(file) for file in find_images([films]).files], range(3), 64)]
    assert errors == ["could not be read: unexpected KeyError", "", ""]
