"""The recogniser of a locator: trained with it, kept with it, and right about hands that it has not seen."""

import numpy as np
import pytest
import torch
from PIL import Image

from baa.data.ood import mishaps
from baa.data.sources.phantom.phantom import phantom_cases


@pytest.mark.parametrize("kept", ["locator/bundle", "estimator/best.ckpt", "estimator/bundle"])
def test_it_is_the_locators_wherever_that_is_kept(finished, kept):
    from baa.checkpoints.load import restore

    own = restore(finished[0] / "tiny" / "locator" / "best.ckpt").recogniser
    found = restore(finished[0] / "tiny" / kept).recogniser
    assert torch.allclose(found.weight, own.weight, rtol=1e-3, atol=1e-6)
    assert torch.equal(found.bias, own.bias)
    for name, tensor in own.laterality.state_dict().items():
        assert torch.allclose(found.laterality.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
        assert tensor.any()


def test_one_that_is_there_is_not_trained_again(finished):
    from baa.checkpoints.load import restore
    from baa.training.input_check import with_recogniser

    file = finished[0] / "tiny" / "locator" / "best.ckpt"
    model = restore(file)
    again = with_recogniser(model._replace(recogniser=None), {}, torch.device("cpu"), file, seed=1, taken=None)
    assert torch.equal(again.recogniser.weight, model.recogniser.weight)
    assert model.recogniser.weight.any()


def test_half_a_one_is_refused():
    from baa.checkpoints.trained_model import read_recogniser
    from baa.nets.input_check import Recogniser

    kept = Recogniser(4).state_dict()
    half = {name: tensor for name, tensor in kept.items() if not name.startswith("laterality.layers.0")}
    with pytest.raises(RuntimeError, match=r"laterality\.layers\.0"):
        read_recogniser(half)


def test_mishaps_are_of_the_radiographs_own_kind():
    film, other = (case.image.load(96).pixels for case in phantom_cases(2, seed=1))
    made = list(mishaps(film, other, np.random.default_rng(0)))
    assert len(made) == 8
    assert {(levels.shape, levels.dtype.name) for levels in made} == {((96, 96), "uint8")}
    assert len({levels.tobytes() for levels in made} | {film.tobytes()}) == 9
    again = list(mishaps(film, other, np.random.default_rng(0)))
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


def test_it_tells_hands_from_what_becomes_of_them(locator):
    from baa.data.cache import Radiographs
    from baa.nets.view import Film
    from baa.training.input_check import train_recogniser

    class Phantoms(Radiographs):
        def pixels(self, index):
            return self.cases[index].image.load(self.px).pixels

    def some(count, seed):
        return Phantoms(phantom_cases(count, seed=seed), [], None, "", 96, [], [])

    recogniser = train_recogniser(locator, {"train": some(60, 1), "val": some(20, 2)}, torch.device("cpu"), 0)
    films = [case.image.load(96).pixels for case in phantom_cases(20, seed=3)]
    rng = np.random.default_rng(1)
    spoilt = [made for i, film in enumerate(films) for made in mishaps(film, films[i - 1], rng)]

    def strange(some):
        source = torch.from_numpy(np.stack(some))[:, None].float() / 255
        with torch.no_grad():
            return (recogniser(locator.features(Film.plain(source).view(locator.px))) > 0).float().mean().item()

    assert strange(films) <= 0.15
    assert strange(spoilt) >= 0.8


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """What the shipped model says of: a phantom, the same upside down, on its side and mirrored, half of it, noise."""
    import pandas as pd

    from baa.inference.inputs import Asked
    from baa.inference.predict import predict
    from baa.model_card import SHIPPED, model_path
    from baa.patient import Sex

    folder = tmp_path_factory.mktemp("films")
    case = phantom_cases(13, seed=5)[-1]  # laterality is sure of it
    film = case.image.load(320).pixels[:, 40:-40]
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    films = {"as_it_is": film, "down": film[::-1, ::-1], "aside": np.rot90(film), "half": film[160:], "noise": noise}
    films |= {"mirrored": film[:, ::-1], "mirrored_aside": np.rot90(film[:, ::-1])}
    for name, levels in films.items():
        Image.fromarray(np.ascontiguousarray(levels)).save(folder / f"{name}.png")
    asked = [Asked(folder / f"{name}.png", Sex.MALE) for name in films]
    tables = []
    for strict in (False, True):
        out = folder / f"strict_{strict}"
        predict(model_path(SHIPPED), asked, out, strict=strict, batch_size=7, workers=0, progress=False)
        tables.append(pd.read_csv(out / "predictions.csv", keep_default_na=False).assign(name=list(films)).set_index("name"))
    return tables


def test_a_hand_that_lies_wrongly_is_turned_and_its_boxes_are_where_they_are_in_the_file(read):
    table, _ = read
    told = table.warnings
    assert told["as_it_is"] == ""
    assert told["down"] == "turned by 180 degrees"
    assert told["aside"] == "turned by 90 degrees clockwise"
    assert (table.lower_months[["as_it_is", "down", "aside"]] != "").all()
    months = table.bone_age_months.astype(float)
    assert months["down"] == pytest.approx(months["as_it_is"], abs=1.0)
    assert months["aside"] == pytest.approx(months["as_it_is"], abs=2.0)  # resampled the other way round: two grey levels off
    corners = [f"hand_{corner}" for corner in ("x0", "y0", "x1", "y1")]
    x0, y0, x1, y1 = table.loc["as_it_is", corners].astype(float)
    width, height = 240, 320
    assert table.loc["down", corners].astype(float).tolist() == pytest.approx(
        [width - x1, height - y1, width - x0, height - y0], abs=3
    )
    assert table.loc["aside", corners].astype(float).tolist() == pytest.approx([y0, width - x1, y1, width - x0], abs=3)


def test_a_mirrored_hand_is_turned_over_and_its_boxes_are_where_they_are_in_the_file(read):
    table, refused = read
    lain = ["as_it_is", "mirrored", "mirrored_aside"]
    assert table.mirrored[lain].tolist() == ["no", "yes", "yes"]
    assert table.warnings[lain].tolist() == ["", "", "turned by 90 degrees clockwise"]
    assert (refused.error[lain] == "").all()
    months = table.bone_age_months.astype(float)
    assert months["mirrored"] == pytest.approx(months["as_it_is"], abs=0.11)  # they are told in tenths
    assert months["mirrored_aside"] == pytest.approx(months["as_it_is"], abs=2.0)
    width = 240
    for region in ("carpal", "hand"):
        corners = [f"{region}_{corner}" for corner in ("x0", "y0", "x1", "y1")]
        x0, y0, x1, y1 = table.loc["as_it_is", corners].astype(float)
        assert table.loc["mirrored", corners].astype(float).tolist() == pytest.approx([width - x1, y0, width - x0, y1], abs=0.2)
        assert table.loc["mirrored_aside", corners].astype(float).tolist() == pytest.approx([y0, x0, y1, x1], abs=3)


def test_what_is_no_whole_hand_is_answered_with_a_warning_or_refused(read):
    answered, refused = read
    for name in ("half", "noise"):
        assert "not recognised as one whole upright hand (strangeness" in answered.warnings[name]
        assert answered.bone_age_months[name] != ""
        assert answered.lower_months[name] == ""
        assert answered.mirrored[name] == ""
        assert refused.error[name].startswith("refused: not recognised")
        assert refused.bone_age_months[name] == ""
    assert (refused.error[["as_it_is", "down", "aside"]] == "").all()


@pytest.mark.parametrize("testing", [True, False])
def test_a_test_lays_hands_as_they_should_lie_and_tells_their_boxes_as_given(testing):
    from types import SimpleNamespace

    from baa.assembly.modules import crop_arguments
    from baa.checkpoints.load import restore
    from baa.config.load import load
    from baa.data.batch import Sample
    from baa.data.datamodules import CropDataModule
    from baa.model_card import SHIPPED, model_path
    from baa.nets.cropper import RegionCropper

    model = restore(model_path(SHIPPED))
    cropper = RegionCropper(model.locator, **crop_arguments(load(None, [], base=model.settings)))
    film = phantom_cases(13, seed=5)[-1].image.load(384).pixels
    lain = torch.from_numpy(np.stack([film, film[:, ::-1], film[::-1, ::-1], film[::-1]]))[:, None]
    data = CropDataModule({}, cropper, recipe={}, recogniser=model.recogniser, batch_size=4)
    data.trainer = SimpleNamespace(testing=testing, training=False)
    boxes = torch.full((4, 2, 4), torch.nan)
    labels = torch.zeros(4, dtype=torch.long)
    batch = data.on_after_batch_transfer(Sample(lain, labels.float(), labels, labels, boxes, boxes[:, 0, :2], boxes), 0)

    expected = lain[:1].repeat(4, 1, 1, 1) if testing else lain
    assert torch.equal(batch.film.source, expected.float() / 255)
    if testing:
        x0, y0, x1, y1 = batch.regions.boxes[0].T
        given = [(x0, y0, x1, y1), (1 - x1, y0, 1 - x0, y1), (1 - x1, 1 - y1, 1 - x0, 1 - y0), (x0, 1 - y1, x1, 1 - y0)]
        for box, told in zip(given, batch.regions.boxes, strict=True):
            assert torch.allclose(torch.stack(box, dim=1), told, atol=1e-4)
