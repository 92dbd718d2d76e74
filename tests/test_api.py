"""A model held in Python: files and arrays in, the predictions of `python -m baa.predict` out."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from dicom_file import dicom
from PIL import Image

from baa.errors import InputError
from baa.patient import Sex


@pytest.fixture(scope="module")
def checkpoint(finished):
    return finished[0] / "tiny" / "estimator" / "best.ckpt"


@pytest.fixture(scope="module")
def model(checkpoint):
    """A model that all tests share: none of them may change its predictions."""
    import baa

    return baa.load_model(checkpoint, device="cpu", batch_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five phantoms, a text file, and a DICOM file of a girl of eleven."""
    from baa.data.sources.phantom import phantom_cases

    folder = tmp_path_factory.mktemp("films")
    for i, case in enumerate(phantom_cases(5, seed=5)):
        levels = case.image.load(160).pixels[:, 20:-20]
        Image.fromarray(levels).save(folder / f"{i}.png")
    (folder / "5.png").write_text("no image")
    (folder / "6.dcm").write_bytes(dicom(np.ascontiguousarray(levels), PatientSex="F", PatientAge="011Y"))
    return folder


@pytest.fixture(scope="module")
def files(folder):
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def gray(files):
    """The levels of the first phantom, uint8 [160, 120]."""
    return np.asarray(Image.open(files[0]))


def as_read(table):
    """A table as it is after it was written as CSV."""
    return pd.read_csv(io.StringIO(table.to_csv(index=False)))


def months(predictions):
    return [prediction.months for prediction in predictions]


def test_importing_the_package_imports_no_torch():
    code = "import sys, baa; assert 'torch' not in sys.modules; assert 'load_model' in baa.__all__"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import baa

    assert baa.Model.__name__ == "Model"
    with pytest.raises(AttributeError, match="module 'baa' has no attribute 'load'"):
        baa.load  # noqa: B018


def test_a_prediction_has_age_interval_boxes_heat_maps_and_a_picture(model, files, tmp_path):
    from baa import Model
    from baa.inference.prediction import columns

    calibrated = model.trained._replace(calibration={"all": [5.0] * 60})
    prediction = Model(calibrated, model.path, "cpu").predict(str(files[0]), sex="female")
    lower, upper = prediction.interval
    assert lower < prediction.months < upper
    assert prediction.coverage == 0.9
    assert list(prediction.boxes) == list(prediction.heat_maps) == ["carpal", "hand"]
    for x0, y0, x1, y1 in prediction.boxes.values():
        assert -20 <= x0 < x1 <= 140  # the square that the film is padded to
        assert 0 <= y0 < y1 <= 160
    assert all(heat.ndim == 2 and heat.min() >= 0 for heat in prediction.heat_maps.values())
    assert isinstance(prediction.warnings, tuple)
    assert (prediction.sex, prediction.sex_source, prediction.file) == (Sex.FEMALE, "option", str(files[0]))

    picture = prediction.plot(tmp_path / "drawn" / "overlay.png")
    with Image.open(tmp_path / "drawn" / "overlay.png") as written:
        assert written.format == "PNG"
        assert np.array_equal(np.asarray(written), np.asarray(picture))
    assert list(prediction.to_pandas()) == list(columns(["carpal", "hand"]))
    assert len(prediction.to_pandas()) == 1


def test_the_columns_follow_the_models_regions(finished, files, tmp_path):
    import baa
    from baa.nets.cropper import RegionCropper
    from baa.nets.two_stage import BoneAgeModel

    model = baa.load_model(finished[0] / "tiny" / "locator" / "best.ckpt", device="cpu")
    old = model.trained.model.cropper
    regions = {"wrist": old.regions["carpal"], "fingers": old.regions["hand"], "thumb": old.regions["hand"]}
    model.trained = model.trained._replace(model=BoneAgeModel(RegionCropper(old.locator, regions), None).eval())
    names = [f"{region}_{corner}" for region in regions for corner in ("x0", "y0", "x1", "y1")]

    assert list(model.predict(files[0]).boxes) == list(regions)
    assert [name for name in model.predict([files[0]]).to_pandas() if name.endswith(("0", "1"))] == names
    assert [name for name in model.predict([files[5]]).to_pandas() if name.endswith(("0", "1"))] == names  # it has no boxes
    assert model.predict(files[0]).plot().width == 1024


@pytest.mark.parametrize("batch_size", [1, 4])
def test_predictions_of_files_are_those_of_the_command(model, checkpoint, folder, files, tmp_path, monkeypatch, batch_size):
    from baa.predict import main

    options = ["--sex", "male", "--disagreement", "--no-overlays", "--workers", 0, "--batch-size", batch_size]
    arguments = [folder, "--checkpoint", checkpoint, "--out", tmp_path / "out", *options]
    monkeypatch.setattr(sys, "argv", ["baa.predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1  # one file cannot be read
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")

    found = model.predict(files, sex="male", disagree=True)
    assert [prediction.file for prediction in found] == [str(file) for file in files]
    assert [bool(prediction.error) for prediction in found] == [False] * 5 + [True, False]
    assert found[6].age_months == 132
    assert "the file's sex is female" in found[6].warnings
    assert all(prediction.disagreement_months >= 0 for prediction in found if not prediction.error)
    pd.testing.assert_frame_equal(as_read(found.to_pandas()), table, atol=0.11)


def test_without_a_sex_the_dicom_header_is_used(model, files):
    png, film = model.predict([files[0], files[6]])
    assert (png.sex, png.sex_source) == (Sex.UNKNOWN, "")
    assert (film.sex, film.sex_source, film.age_months) == (Sex.FEMALE, "file", 132)
    assert model.predict(files[6], sex=Sex.UNKNOWN).sex == Sex.UNKNOWN


def test_strict_and_age_are_those_of_the_command(model, checkpoint, files, tmp_path, monkeypatch):
    import baa
    from baa import predict
    from baa.nets.input_check import InputCheck

    strict = baa.load_model(checkpoint, device="cpu")
    check = InputCheck(strict.trained.model.cropper.features(torch.rand(1, 1, 64, 64)).shape[1])
    check.bias.fill_(2.0)  # nothing is recognized
    strict.trained.model.input_check = check
    (tmp_path / "t.csv").write_text(f"file,sex,age_months\n{files[0]},F,120\n{files[1]},M,\n")
    monkeypatch.setattr("baa.api.load_model", lambda *_, **__: strict)
    options = ["--table", tmp_path / "t.csv", "--strict", "--workers", "0", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["baa.predict", *map(str, files[:2]), *map(str, options)])
    with pytest.raises(SystemExit):
        predict.main()
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")

    arguments = {"sex": ["F", Sex.MALE], "age_months": [120, None]}
    refused = strict.predict(files[:2], **arguments, strict=True)
    assert all(prediction.error.startswith("refused: not recognized") for prediction in refused)
    expected = as_read(refused.to_pandas()).replace({"sex_source": {"option": "table"}})
    pd.testing.assert_frame_equal(expected, table, atol=0.011)
    with pytest.raises(InputError, match=f"{files[0]}: refused: not recognized as one whole upright hand"):
        strict.predict(files[0], strict=True)

    accepted = strict.predict(files[:2], **arguments)
    assert months(accepted) == pytest.approx(months(model.predict(files[:2], **arguments)), abs=1e-3)
    assert accepted[0].age_months == 120
    assert accepted[0].make_row()["ahead_months"] == pytest.approx(accepted[0].months - 120, abs=0.11)
    assert accepted[0].interval is None


ONE = {
    "path": lambda gray, file: file,
    "bytes": lambda gray, file: file.read_bytes(),
    "[H, W]": lambda gray, _: gray,
    "[H, W, 1]": lambda gray, _: gray[..., None],
    "[H, W, 3]": lambda gray, _: np.stack([gray] * 3, axis=-1),
    "[H, W, 4]": lambda gray, _: np.stack([gray] * 3 + [np.full_like(gray, 255)], axis=-1),
    "[3, H, W] tensor": lambda gray, _: torch.from_numpy(np.stack([gray] * 3)),
    "[1, H, W] tensor": lambda gray, _: torch.from_numpy(gray[None].copy()),
}
ROUNDED = {
    "0 to 1": lambda gray: gray.astype(np.float32) / 255,
    "0 to 1, float64, RGB": lambda gray: np.stack([gray / 255] * 3, axis=-1),
    "float tensor": lambda gray: torch.from_numpy(gray.copy())[None].float() / 255,
    "uint16": lambda gray: gray.astype(np.uint16) * 257,
    "int16": lambda gray: gray.astype(np.int16) - 1000,
}


@pytest.mark.parametrize("kind", ONE)
def test_an_array_is_read_as_the_file_of_its_levels(model, files, gray, kind):
    expected, found = model.predict(files[0], sex="female"), model.predict(ONE[kind](gray, files[0]), sex="female")
    assert found.months == expected.months
    assert found.boxes == expected.boxes
    assert found.file == (str(files[0]) if kind == "path" else "")


@pytest.mark.parametrize("kind", ROUNDED)
def test_an_array_of_another_depth_is_read_as_the_file_of_its_levels(model, files, gray, kind):
    expected, found = model.predict(files[0], sex="female"), model.predict(ROUNDED[kind](gray), sex="female")
    assert found.months == pytest.approx(expected.months, abs=0.05)


@pytest.mark.parametrize("kind", ["[N, H, W]", "[N, 1, H, W]", "[N, H, W, 3]", "tensor", "list", "mixed", "iterator"])
def test_a_batch_or_a_list_is_read_as_its_files(model, files, kind):
    films = files[:5]
    arrays = np.stack([np.asarray(Image.open(file)) for file in films])
    batch = {
        "[N, H, W]": arrays,
        "[N, 1, H, W]": arrays[:, None],
        "[N, H, W, 3]": np.stack([arrays] * 3, axis=-1),
        "tensor": torch.from_numpy(arrays)[:, None],
        "list": list(arrays),
        "mixed": [films[0], str(films[1]), films[2].read_bytes(), arrays[3], torch.from_numpy(arrays[4])],
        "iterator": iter(films),
    }[kind]
    sexes = ["female", "male", "unknown", None, Sex.MALE]
    expected, found = model.predict(films, sex=sexes), model.predict(batch, sex=sexes)
    assert len(found) == 5
    assert months(found) == months(expected)
    assert [prediction.sex for prediction in found] == [Sex.FEMALE, Sex.MALE, Sex.UNKNOWN, Sex.UNKNOWN, Sex.MALE]
    assert months(expected) == pytest.approx(
        [model.predict(f, sex=s).months for f, s in zip(films, sexes, strict=True)], abs=1e-3
    )


def test_three_planes_are_one_rgb_radiograph_and_with_a_channel_axis_three(model, files):
    planes = np.stack([np.asarray(Image.open(file)) for file in files[:3]])
    assert model.predict(planes, sex="male").months > 0
    assert months(model.predict(planes[:, None], sex="male")) == months(model.predict(files[:3], sex="male"))
    assert len(model.predict(planes[:1, None], sex="male")) == 1
    with pytest.raises(InputError, match="sex: 3 values for 1 radiographs; give one, or one per radiograph"):
        model.predict(planes, sex=["male"] * 3)


def test_a_dicom_file_in_memory_is_read_with_its_header(model, files):
    film, in_memory = model.predict(files[6]), model.predict(files[6].read_bytes())
    assert (in_memory.sex, in_memory.age_months, in_memory.months) == (Sex.FEMALE, 132, film.months)


def test_sexes_and_ages_of_a_table_are_taken_as_its_columns(model, files):
    table = pd.DataFrame({"sex": ["F", None], "age": [120.0, np.nan]})
    png, film = model.predict([files[0], files[6]], sex=table.sex, age_months=table.age)
    assert (png.sex, png.age_months) == (Sex.FEMALE, 120)
    assert (film.sex, film.sex_source, film.age_months) == (Sex.FEMALE, "file", 132)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.zeros(9)}, r"x: an array of shape \[9\]; give a path, "),
        ({"x": np.zeros((2, 2, 64, 64, 3))}, r"x: an array of shape \[2, 2, 64, 64, 3\]; give"),
        ({"x": np.zeros((2, 64, 64, 2))}, r"x: an array of shape \[64, 64, 2\] is not one radiograph; give"),
        ({"x": [np.zeros((2, 1, 64, 64))]}, r"x: an array of shape \[2, 1, 64, 64\] is not one radiograph; .* flat list"),
        ({"x": np.full((64, 64), np.nan)}, "x: the image has levels that are not numbers"),
        ({"x": np.zeros((64, 64), complex)}, "x: the levels are of type complex128; give integers or floating"),
        ({"x": np.zeros((1, 64))}, r"x: an array of shape \[1, 64\]; give"),
        ({"x": b"no image"}, "x: not an image in PNG, JPEG, TIFF, WebP, BMP or DICOM"),
        ({"x": "missing.png"}, "missing.png: No such file or directory"),
        ({"x": "missing.png", "strict": True}, "missing.png: No such file or directory"),
        ({"x": "a.png", "sex": "girlish"}, "sex 'girlish' is none of male, female, unknown"),
        ({"x": ["a.png", "b.png"], "sex": ["male"]}, "sex: 1 values for 2 radiographs; give one, or one per radiograph"),
        ({"x": "a.png", "age_months": -1}, "age_months: age '-1' is outside 0 to 1440 months"),
        ({"x": ["a.png", "b.png"], "age_months": [1, 2, 3]}, "age_months: 3 values for 2 radiographs"),
    ],
)
def test_a_wrong_argument_is_one_line(model, arguments, message):
    with pytest.raises(InputError, match=f"^{message}") as error:
        model.predict(**arguments)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("x", [3, None, [3], [["a.png"], ["b.png"]], Image.new("L", (9, 9))])
def test_other_kinds_of_radiographs_are_refused(x):
    from baa.inference.arguments import as_inputs

    with pytest.raises(InputError, match=r"^x: a \w+( is not one radiograph)?; give a path, "):
        as_inputs(x, None, None)


def test_in_a_list_a_radiograph_that_cannot_be_read_is_a_prediction_with_an_error(model, gray):
    found = model.predict(["missing.png", gray, np.full((64, 64), np.nan)], sex="male")
    assert [prediction.error for prediction in found] == [
        "No such file or directory",
        "",
        "the image has levels that are not numbers",
    ]
    assert found[1].months == pytest.approx(model.predict(gray, sex="male").months, abs=1e-3)
    assert found.to_pandas().error.notna().tolist() == [True, False, True]
    assert list(model.predict([])) == []


def test_a_coverage_or_batch_size_out_of_range_is_refused(checkpoint):
    import baa

    with pytest.raises(InputError, match="coverage: 90 is not between 0 and 1"):
        baa.load_model(checkpoint, device="cpu", coverage=90.0)
    with pytest.raises(InputError, match="batch_size: 0 is not positive"):
        baa.load_model(checkpoint, device="cpu", batch_size=0)
    with pytest.raises(InputError, match="missing.ckpt does not exist"):
        baa.load_model("missing.ckpt")


def test_the_model_is_loaded_once_and_its_predictions_stay_the_same(checkpoint, files, tmp_path, monkeypatch):
    from baa import api

    loaded = []
    monkeypatch.setattr(api, "load_trained_model", lambda path, load=api.load_trained_model: loaded.append(path) or load(path))
    monkeypatch.setattr("torch.load", lambda *a, load=torch.load, **k: loaded.append("file") or load(*a, **k))
    model = api.load_model(checkpoint, device="cpu")
    assert loaded == [checkpoint, "file"]

    before = model.predict(files[:3], sex="female", disagree=True)
    with torch.inference_mode():
        assert months(model.predict(files[:3], sex="female")) == months(before)
    evaluated = model.evaluate(["crops.box_method=moments", "estimator.flip_average=false"], out=tmp_path / "evaluated")
    assert evaluated["estimator"]["test/mae"] > 0
    model.predict_files([], tmp_path / "none", progress=False)
    after = model.predict(files[:3], sex="female", disagree=True)

    assert loaded == [checkpoint, "file"]
    pd.testing.assert_frame_equal(after.to_pandas(), before.to_pandas())
    assert months(after) == months(before)
    assert not any(parameter.grad is not None for parameter in model.trained.model.parameters())
    assert not model.trained.model.training
