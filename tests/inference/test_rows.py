"""What is said of a file."""

from pathlib import Path

import numpy as np
import torch

from baa.data.batch import Batch
from baa.inference.files import FileSample
from baa.inference.inputs import Asked
from baa.inference.rows import Answers, _unlike
from baa.nets.pose import Pose
from baa.nets.view import Film
from baa.patient import Sex


def answered(pose, laterality, strangeness, months, draw=None, read=140.0):
    """The rows of films whose pixels all differ."""
    count = len(laterality)
    image, nothing = torch.arange(64.0).repeat(count, 1, 1, 1).view(count, 1, 8, 8), torch.full((count,), torch.nan)
    sample = FileSample(
        image=image.byte(),
        sex=torch.full((count,), int(Sex.MALE)),
        sex_from=["table"] * count,
        months=months,
        place=torch.arange(count),
        size=torch.full((count, 2), 8.0),
        notes=[""] * count,
        error=[""] * count,
        pose=pose,
        strangeness=strangeness,
        laterality=laterality,
    )
    boxes = torch.full((count, 2, 4), torch.nan)
    batch = Batch(Film.plain(image), nothing, sample.sex, sample.place, boxes, boxes[:, 0, :2], boxes, None)
    asked = [Asked(Path(f"{i}.png"), Sex.MALE) for i in range(count)]
    answers = Answers(asked, {"all": [1.0] * 40}, 0.9, draw=draw)
    return [answers.give(i, torch.full((count,), read), batch, sample) for i in range(count)]


def test_a_side_is_told_where_it_was_turned_over_or_is_sure_and_the_hand_is_recognised():
    rows = answered(
        Pose(torch.zeros(6, dtype=torch.long), torch.tensor([True, False, False, False, False, False])),
        laterality=torch.tensor([4.0, -4.0, 2.0, -4.0, torch.nan, 4.0]),
        strangeness=torch.tensor([-1.0, -1.0, -1.0, 1.0, torch.nan, -1.0]),
        months=torch.tensor([132.0, torch.nan, 300.0, torch.nan, torch.nan, torch.nan]),
    )
    assert [row.get("mirrored") for row in rows] == ["yes", "no", None, None, None, None]
    assert [row.get("ahead_deviations") for row in rows] == [0.8, None, None, None, None, None]


def test_an_adult_is_answered_with_a_warning():
    pose, none = Pose(torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.bool)), torch.full((2,), torch.nan)
    ages = torch.tensor([400.0, 239.0])
    assert [row["warnings"] for row in answered(pose, none, none, ages)] == ["an adult by the age told", ""]
    assert ["end of growth" in row["warnings"] for row in answered(pose, none, none, none, read=230.0)] == [True, True]


def test_the_picture_shows_the_film_as_it_was_read():
    drawings = {}
    nothing = torch.full((1,), torch.nan)
    pose = Pose(torch.tensor([1]), torch.tensor([True]))
    [row] = answered(pose, nothing, nothing, nothing, draw=drawings.__setitem__)
    assert row["warnings"] == "turned by 90 degrees anticlockwise"
    assert np.array_equal(drawings[0].film, np.fliplr(np.rot90(np.arange(64).reshape(8, 8))))
    assert any("lay mirrored, turned over" in line for line in drawings[0].lines)


def test_no_two_pictures_share_a_name_even_where_capitals_do_not_count():
    names = _unlike(["1", "1", "1_2", "a", "A", "b"])
    assert names[0] == "1"
    assert names[3] == "a"
    assert names[5] == "b"
    assert len({name.lower() for name in names}) == 6


def test_an_age_that_is_no_number_is_an_error_of_its_file_alone():
    upright = Pose(torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.bool))
    (row,) = answered(upright, torch.zeros(1), torch.full((1,), -1.0), torch.full((1,), 120.0), read=torch.nan)
    assert row["error"] == "the network gives no number for it"
    assert "bone_age_months" not in row
