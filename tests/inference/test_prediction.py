"""The prediction of a radiograph: its row, its warnings, its picture."""

import unicodedata

import numpy as np
import pytest
import torch
from torch import nn

from baa.checkpoints.provenance import Provenance
from baa.checkpoints.trained_model import TrainedModel
from baa.inference.files import FileSample
from baa.inference.predict import unique_names
from baa.inference.prediction import Prediction, Predictions, columns
from baa.inference.read import Reading, make_prediction, read
from baa.nets.heads import AgePrediction
from baa.nets.input_check import Oriented
from baa.nets.regions import Regions
from baa.nets.two_stage import BoneAgeModel
from baa.nets.view import View
from baa.patient import Sex

SETTINGS = {"trainer": {"precision": "32-true"}}


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    """The radiographs here are black: no hand whose proportions could be estimated."""
    monkeypatch.setattr("baa.inference.read.proportion_notes", lambda film: [])


def trained(model=None):
    """A model whose prediction intervals have a half width of one month."""
    return TrainedModel("estimator", model or BoneAgeModel(None, None), {}, SETTINGS, Provenance(), {"all": [1.0] * 40})


def oriented(quarters, mirrored, ood_score, laterality):
    source = torch.zeros(len(quarters), 1, 8, 8)
    return Oriented(
        View.of(source), torch.tensor(ood_score), torch.tensor(laterality), torch.tensor(quarters), torch.tensor(mirrored)
    )


def samples(chronological):
    count = len(chronological)
    return FileSample(
        image=torch.zeros(count, 1, 8, 8, dtype=torch.uint8),
        sex=torch.full((count,), int(Sex.MALE)),
        sex_source=["table"] * count,
        months=torch.tensor(chronological),
        place=torch.arange(count),
        frame=torch.tensor([0.0, 0.0, 8.0]).expand(count, 3),
        notes=[""] * count,
        error=[""] * count,
    )


def predictions(orientation, chronological, months=140.0, strict=False):
    count = len(chronological)
    film = torch.zeros(count, 8, 8, dtype=torch.uint8)
    reading = Reading(torch.full((count,), months), orientation, film, None, None, None)
    sample = samples(chronological)
    return [make_prediction(i, reading, sample, f"{i}.png", trained(), 0.9, strict=strict) for i in range(count)]


def test_laterality_is_given_if_the_hand_was_flipped_or_is_clearly_unmirrored_and_recognized():
    orientation = oriented(
        [0] * 6,
        [True, False, False, False, False, False],
        ood_score=[-1.0, -1.0, -1.0, 1.0, torch.nan, -1.0],
        laterality=[4.0, -4.0, 2.0, -4.0, torch.nan, 4.0],
    )
    found = predictions(orientation, [132.0, torch.nan, 300.0, torch.nan, torch.nan, torch.nan])
    rows = [prediction.make_row() for prediction in found]
    assert [row.get("mirrored") for row in rows] == ["yes", "no", None, None, None, None]
    assert [row.get("ahead_deviations") for row in rows] == [0.8, None, None, None, None, None]
    assert [row.get("ood_score") for row in rows] == [-1, -1, -1, 1, None, -1]


def test_an_unrecognized_radiograph_has_a_warning_and_no_interval_and_strict_refuses_it():
    orientation = oriented([0, 0], [False, False], ood_score=[-1.0, 2.5], laterality=[0.0, 0.0])
    hand, other = predictions(orientation, [torch.nan] * 2)
    assert hand.interval == pytest.approx((139, 141))
    assert hand.warnings == ()
    assert other.interval is None
    assert other.warnings == ("not recognized as one whole upright hand (ood_score 2.5, above 0)",)
    hand, other = predictions(orientation, [torch.nan] * 2, strict=True)
    assert not hand.error
    assert other.error == "refused: not recognized as one whole upright hand (ood_score 2.5, above 0)"
    assert np.isnan(other.months)
    assert "bone_age_months" not in other.make_row()


def test_a_region_that_was_not_found_is_a_warning_that_names_it(locator):
    from baa.nets.cropper import RegionCropper
    from baa.nets.regions import Region

    region = Region(px=32, extent=1.5, min_side=0.2, max_side=0.4, fallback_side=0.3)
    model = BoneAgeModel(RegionCropper(locator, {"wrist": region, "thumb": region}), None)
    boxes = torch.tensor([[[0.25, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])
    heat, fallback = torch.ones(1, 2, 4, 4), torch.tensor([[False, True]])
    regions = Regions(boxes, points=boxes[..., :2], heat=heat, fallback=fallback, crops={})
    unchecked = oriented([0], [False], [torch.nan], [torch.nan])
    reading = Reading(torch.tensor([140.0]), unchecked, torch.zeros(1, 8, 8, dtype=torch.uint8), regions, boxes, None)
    sample = samples([torch.nan])._replace(frame=torch.tensor([[0.0, -2.0, 8.0]]))
    prediction = make_prediction(0, reading, sample, "a.png", trained(model), 0.9)
    assert prediction.warnings == ("no thumb region found, a box at the expected place replaces it",)
    assert prediction.regions == ("wrist", "thumb")
    assert prediction.boxes == {"wrist": (2, 0, 4, 2), "thumb": (4, 2, 8, 6)}  # 2 rows of the square lie above the film
    assert list(prediction.to_pandas())[11:19] == [
        f"{name}_{c}" for name in ("wrist", "thumb") for c in ("x0", "y0", "x1", "y1")
    ]


def test_an_adult_gets_a_warning():
    unchecked = oriented([0, 0], [False, False], [torch.nan] * 2, [torch.nan] * 2)
    adult, youth = predictions(unchecked, [400.0, 239.0])
    assert adult.make_row()["warnings"] == "an adult by the chronological age"
    assert youth.make_row()["warnings"] == ""
    grown = predictions(unchecked, [torch.nan] * 2, months=230.0)
    assert ["end of growth" in prediction.make_row()["warnings"] for prediction in grown] == [True, True]


def test_only_a_recognized_hand_has_proportions(monkeypatch):
    monkeypatch.setattr("baa.inference.read.proportion_notes", lambda film: ["the hand looks too wide"])
    orientation = oriented([0, 0, 0], [False] * 3, ood_score=[-1.0, 2.5, torch.nan], laterality=[0.0] * 3)
    hand, other, unchecked = predictions(orientation, [torch.nan] * 3)
    assert hand.warnings == ("the hand looks too wide",)
    assert not any("wide" in warning for warning in (*other.warnings, *unchecked.warnings))


class Rotated(nn.Module):
    """A model that reads each radiograph rotated by 90 degrees, then mirrored."""

    cropper = estimator = None
    streams_with_ages = ()

    def upright(self, source):
        one = torch.ones(len(source), dtype=torch.long)
        nothing = torch.full((len(source),), torch.nan)
        return Oriented(View.of(source).turned(one, one.bool()), nothing, nothing, one, one.bool()), None

    def forward(self, view, sex, regions):
        months = torch.full((len(sex),), 140.0)
        return AgePrediction(months)


def test_the_picture_shows_the_radiograph_as_it_was_read():
    source = torch.arange(64.0).view(1, 1, 8, 8) / 255
    model = trained(Rotated())
    reading = read(model, source, torch.tensor([int(Sex.MALE)]))
    prediction = make_prediction(0, reading, samples([torch.nan]), "a.png", model, 0.9)
    assert prediction.warnings == ("rotated by 90 degrees counterclockwise",)
    drawing = prediction.drawing()
    assert np.array_equal(drawing.film, np.fliplr(np.rot90(np.arange(64).reshape(8, 8))))
    assert any("mirrored hand, flipped" in line for line in drawing.lines)


def test_the_caption_names_interval_sex_and_chronological_age_but_no_file():
    prediction = Prediction(
        file="secret.png",
        sex=Sex.FEMALE,
        sex_source="table",
        age_months=120.0,
        months=130.0,
        interval=(118.0, 142.0),
        coverage=0.8,
    )
    estimate, patient, warning = prediction.caption()
    assert estimate == "bone age 10 y 10 m (130 months); 80 % interval: 9 y 10 m to 11 y 10 m"
    assert patient.startswith("sex female (from table); chronological age 10 y 0 m: 10 months ahead (")
    assert warning == "no warning"


def test_a_prediction_without_an_age_cannot_be_drawn():
    with pytest.raises(ValueError, match="nothing to draw: damaged"):
        Prediction(file="a.png", sex=Sex.MALE, coverage=0.9, error="damaged").plot()


def test_a_table_of_errors_has_the_columns_of_the_models_regions():
    failed = Prediction(file="a.png", sex=Sex.MALE, coverage=0.9, regions=("wrist",), error="damaged")
    assert list(Predictions([failed]).to_pandas()) == list(columns(["wrist"]))
    assert list(failed.to_pandas()) == list(columns(["wrist"]))
    assert "wrist_x0" in columns(["wrist"])


def test_no_two_pictures_share_a_name_even_where_capitals_do_not_count():
    names = unique_names(["1", "1", "1_2", "a", "A", "b"])
    assert names[0] == "1"
    assert names[3] == "a"
    assert names[5] == "b"
    assert len({name.lower() for name in names}) == 6


def test_an_age_that_is_not_finite_is_an_error_of_its_file_alone():
    unchecked = oriented([0], [False], [-1.0], [0.0])
    [prediction] = predictions(unchecked, [120.0], months=torch.nan)
    assert prediction.error == "the network returns no finite age for it"
    assert "bone_age_months" not in prediction.make_row()


def test_many_files_of_one_name_are_numbered_in_no_time():
    names = unique_names(["IM0001"] * 50_000 + ["im0001_3", "J\u00f6rg", unicodedata.normalize("NFD", "j\u00f6rg")])
    assert names[:2] == ["IM0001", "IM0001_2"]
    assert names[-4:] == ["IM0001_50000", "im0001_3_2", "J\u00f6rg", unicodedata.normalize("NFD", "j\u00f6rg") + "_2"]


@pytest.mark.parametrize(
    ("end", "interval", "kept", "said"),
    [
        ("or more", (212.0, 240.0), {"lower_months": 212.0}, "90 % interval: 17 y 8 m or more"),
        ("or less", (0.0, 22.0), {"upper_months": 22.0}, "90 % interval: 1 y 10 m or less"),
        ("", (90.0, 114.0), {"lower_months": 90.0, "upper_months": 114.0}, "90 % interval: 7 y 6 m to 9 y 6 m"),
    ],
)
def test_an_interval_has_no_edge_at_an_open_end(end, interval, kept, said):
    months = sum(interval) / 2
    prediction = Prediction(file="a.png", sex=Sex.MALE, months=months, interval=interval, open_end=end, coverage=0.9)
    row = prediction.make_row()

    assert {name: row[name] for name in ("lower_months", "upper_months") if name in row} == kept
    assert prediction.caption()[0].endswith(said)
