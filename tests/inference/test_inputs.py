"""Which files a prediction reads, and where sex and age of each patient come from."""

import numpy as np
import pytest
import torch
from dicom_file import dicom
from PIL import Image

from baa.errors import InputError
from baa.inference.files import FileDataset
from baa.inference.inputs import InputFile, find_images, with_table
from baa.patient import Sex


@pytest.fixture
def films(tmp_path):
    """a/hand.png, a/notes.txt, b/hand.png and b/IM0001, a DICOM file of a boy of ten."""
    pixels = np.random.default_rng(0).integers(0, 99, (40, 30), np.uint8)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "hand.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "IM0001").write_bytes(dicom(pixels, PatientSex="M", PatientAge="010Y"))
    return tmp_path


def names(files, folder):
    return [str(file.relative_to(folder)) for file in files]


def test_folders_patterns_and_files_are_found_in_order_and_once(films):
    assert names(find_images([films]), films) == ["a/hand.png", "b/IM0001", "b/hand.png"]
    assert names(find_images([films / "b" / "hand.png", films / "*"]), films) == ["b/hand.png", "a/hand.png", "b/IM0001"]
    assert names(find_images([films / "**" / "*.png"]), films) == ["a/hand.png", "b/hand.png"]
    assert names(find_images([films / "a" / "notes.txt"]), films) == ["a/notes.txt"]  # to be a row with its reason


def test_overlays_of_an_earlier_prediction_are_left_out(films):
    drawn = films / "b"
    for given in ([films], [films / "**" / "*.png"], [films / "*"]):
        assert names(find_images(given, drawn), films) == ["a/hand.png"]
    assert names(find_images([films / "b" / "hand.png"], drawn), films) == ["b/hand.png"]


def test_dicom_files_are_found_whatever_their_names(films):
    film = films / "b" / "IM0001"
    film.rename(films / "b" / "1.2.840.113619.2.5.1762")
    (films / "b" / "DICOMDIR").write_bytes((films / "b" / "1.2.840.113619.2.5.1762").read_bytes())
    assert names(find_images([films / "b"]), films) == ["b/1.2.840.113619.2.5.1762", "b/hand.png"]


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
    files = find_images([films])
    (tmp_path / "t.csv").write_text(f"file,sex,age_months\nIM0001,F,400\n{files[0]},boy,\nother.png,M,7\n")
    inputs, unused = with_table(files, tmp_path / "t.csv")
    assert inputs == [
        InputFile(files[0], Sex.MALE, None, "table"),
        InputFile(files[1], Sex.FEMALE, 400.0, "table"),  # an adult: a warning, not an error
        InputFile(files[2]),
    ]
    assert unused == 1


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
        with_table(find_images([films]), tmp_path / "t.csv")


def test_the_caller_overrides_the_header_and_a_difference_is_noted(films):
    film = films / "b" / "IM0001"
    inputs = [
        InputFile(film),
        InputFile(film, Sex.FEMALE, 77.0, "table"),
        InputFile(films / "a" / "hand.png"),
        InputFile(film, Sex.UNKNOWN),
    ]
    samples = list(FileDataset(inputs, range(4), 64))

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
    assert torch.equal(from_file.size, array.size)
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
        "not an image in PNG, JPEG, TIFF or DICOM",
    ]
    assert not any(sample.image.any() for sample in samples)
