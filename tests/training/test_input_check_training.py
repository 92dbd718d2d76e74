"""The input check: trained with a locator, kept with it, and right about unseen hands."""

import numpy as np
import pytest
import torch
from PIL import Image

from baa.data.ood import corruptions
from baa.data.sources.phantom import phantom_cases


@pytest.mark.parametrize("kept", ["locator/bundle", "estimator/best.ckpt", "estimator/bundle"])
def test_each_file_keeps_the_input_check_of_the_locator(finished, kept):
    from baa.checkpoints.load import load_model

    own = load_model(finished[0] / "tiny" / "locator" / "best.ckpt").model.input_check
    found = load_model(finished[0] / "tiny" / kept).model.input_check
    assert torch.allclose(found.weight, own.weight, rtol=1e-3, atol=1e-6)
    assert torch.equal(found.bias, own.bias)
    for name, tensor in own.laterality.state_dict().items():
        assert torch.allclose(found.laterality.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
        assert tensor.any()


def test_another_process_reads_the_shared_input_check_instead_of_training_one(finished, tmp_path, monkeypatch):
    from baa.checkpoints.load import load_model
    from baa.training import input_check

    trained = load_model(finished[0] / "tiny" / "locator" / "best.ckpt")
    file, computing = tmp_path / "shared.safetensors", torch.device("cpu")
    monkeypatch.setattr(input_check, "train_input_check", lambda *_: trained.model.input_check)
    first = input_check.shared_input_check(trained.locator, {}, computing, file, seed=1)
    monkeypatch.setattr(input_check, "train_input_check", lambda *_: pytest.fail("trained again"))
    second = input_check.shared_input_check(trained.locator, {}, computing, file, seed=1)

    assert first.weight.any()
    for name, tensor in trained.model.input_check.state_dict().items():
        assert torch.equal(first.state_dict()[name], tensor)
        assert torch.equal(second.state_dict()[name], tensor)


def test_an_incomplete_input_check_is_refused():
    from baa.checkpoints.trained_model import build_input_check
    from baa.nets.input_check import InputCheck

    kept = InputCheck(4).state_dict()
    half = {name: tensor for name, tensor in kept.items() if not name.startswith("laterality.layers.0")}
    with pytest.raises(RuntimeError, match=r"laterality\.layers\.0"):
        build_input_check(half)


def test_corruptions_have_the_form_of_radiographs():
    film, other = (case.image.load(96).pixels for case in phantom_cases(2, seed=1))
    made = list(corruptions(film, other, np.random.default_rng(0)))
    assert len(made) == 8
    assert {(levels.shape, levels.dtype.name) for levels in made} == {((96, 96), "uint8")}
    assert len({levels.tobytes() for levels in made} | {film.tobytes()}) == 9
    again = list(corruptions(film, other, np.random.default_rng(0)))
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


def test_some_corruptions_are_all_rotations_and_others_in_turn():
    film, other = (case.image.load(96).pixels for case in phantom_cases(2, seed=1))
    rng = np.random.default_rng(0)
    rotations = [np.rot90(film, quarters) for quarters in (1, 2, 3)]
    pairs_of_others = set()
    for _ in range(20):
        made = list(corruptions(film, other, rng, some=2))
        assert len(made) == 5
        assert all(np.array_equal(a, b) for a, b in zip(made, rotations, strict=False))
        pairs_of_others.add(tuple(levels.tobytes() for levels in made[3:]))
    assert len(pairs_of_others) == 20


def test_it_distinguishes_hands_from_corruptions(locator, monkeypatch):
    from baa.data.cache import Radiographs
    from baa.nets.view import View
    from baa.training import laterality
    from baa.training.input_check import train_input_check

    monkeypatch.setattr(laterality, "EPOCHS", 1)  # it has a test of its own

    class Phantoms(Radiographs):
        def pixels(self, index):
            return self.cases[index].image.load(self.px).pixels

    def some(count, seed):
        return Phantoms(phantom_cases(count, seed=seed), [], None, "", 96, [], [], [])

    input_check = train_input_check(locator, {"train": some(30, 1), "val": some(20, 2)}, torch.device("cpu"), 0)
    films = [case.image.load(96).pixels for case in phantom_cases(20, seed=3)]
    rng = np.random.default_rng(1)
    corrupted = [made for i, film in enumerate(films) for made in corruptions(film, films[i - 1], rng)]

    def unrecognized(some):
        source = torch.from_numpy(np.stack(some))[:, None].float() / 255
        with torch.no_grad():
            return (input_check(locator.features(View.of(source).render(locator.px))) > 0).float().mean().item()

    assert unrecognized(films) <= 0.15
    assert unrecognized(corrupted) >= 0.8


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Predictions of the shipped model: a phantom, upside down, on its side, mirrored; half of it; noise. Then strict ones."""
    import pandas as pd

    from baa.api import load_model
    from baa.inference.inputs import InputFile
    from baa.patient import Sex

    model = load_model(device="cpu")
    folder = tmp_path_factory.mktemp("films")
    case = phantom_cases(12, seed=5)[-1]  # laterality is sure of it, and it is far from the end of growth
    film = case.image.load(400).pixels[:, 50:-50]
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    films = {"as_it_is": film, "down": film[::-1, ::-1], "aside": np.rot90(film), "half": film[200:], "noise": noise}
    films |= {"mirrored": film[:, ::-1], "mirrored_aside": np.rot90(film[:, ::-1])}
    for name, levels in films.items():
        Image.fromarray(np.ascontiguousarray(levels)).save(folder / f"{name}.png")
    inputs = [InputFile(folder / f"{name}.png", Sex.MALE) for name in films]
    tables = []
    for strict in (False, True):
        out = folder / f"strict_{strict}"
        model.predict_files(inputs, out, strict=strict, progress=False)
        tables.append(pd.read_csv(out / "predictions.csv", keep_default_na=False).assign(name=list(films)).set_index("name"))
    return tables


def rotations(table):
    """The warnings of rotated hands. A phantom has others too: its streams differ more than those of a hand."""
    return table.warnings.str.extract("(rotated by [^;]*)")[0].fillna("")


def test_a_rotated_hand_is_rotated_upright_and_its_boxes_are_in_pixels_of_the_file(read):
    table, _ = read
    warnings = rotations(table)
    assert warnings["as_it_is"] == ""
    assert warnings["down"] == "rotated by 180 degrees"
    assert warnings["aside"] == "rotated by 90 degrees clockwise"
    assert (table.lower_months[["as_it_is", "down", "aside"]] != "").all()
    months = table.bone_age_months.astype(float)
    assert months["down"] == pytest.approx(months["as_it_is"], abs=1.0)
    assert months["aside"] == pytest.approx(months["as_it_is"], abs=2.0)  # resampled the other way round: two gray levels off
    corners = [f"hand_{corner}" for corner in ("x0", "y0", "x1", "y1")]
    x0, y0, x1, y1 = table.loc["as_it_is", corners].astype(float)
    width, height = 300, 400
    assert table.loc["down", corners].astype(float).tolist() == pytest.approx(
        [width - x1, height - y1, width - x0, height - y0], abs=3
    )
    assert table.loc["aside", corners].astype(float).tolist() == pytest.approx([y0, width - x1, y1, width - x0], abs=3)


def test_a_mirrored_hand_is_flipped_and_its_boxes_are_in_pixels_of_the_file(read):
    table, refused = read
    lain = ["as_it_is", "mirrored", "mirrored_aside"]
    assert table.mirrored[lain].tolist() == ["no", "yes", "yes"]
    assert rotations(table)[lain].tolist() == ["", "", "rotated by 90 degrees clockwise"]
    assert (refused.error[lain] == "").all()
    months = table.bone_age_months.astype(float)
    assert months["mirrored"] == pytest.approx(months["as_it_is"], abs=0.5)  # shrinking is not symmetric to a pixel
    assert months["mirrored_aside"] == pytest.approx(months["as_it_is"], abs=2.0)
    width = 300
    for region in ("carpal", "hand"):
        corners = [f"{region}_{corner}" for corner in ("x0", "y0", "x1", "y1")]
        x0, y0, x1, y1 = table.loc["as_it_is", corners].astype(float)
        assert table.loc["mirrored", corners].astype(float).tolist() == pytest.approx([width - x1, y0, width - x0, y1], abs=2)
        assert table.loc["mirrored_aside", corners].astype(float).tolist() == pytest.approx([y0, x0, y1, x1], abs=3)


def test_an_unrecognized_image_gets_a_warning_or_with_strict_an_error(read):
    warned, refused = read
    for name in ("half", "noise"):
        assert "not recognized as one whole upright hand (ood_score" in warned.warnings[name]
        assert warned.bone_age_months[name] != ""
        assert warned.lower_months[name] == ""
        assert warned.mirrored[name] == ""
        assert refused.error[name].startswith("refused: not recognized")
        assert refused.bone_age_months[name] == ""
    assert (refused.error[["as_it_is", "down", "aside"]] == "").all()


@pytest.mark.parametrize("testing", [True, False])
def test_a_test_orients_hands_and_gives_their_boxes_in_the_source(testing):
    from types import SimpleNamespace

    from baa.checkpoints.load import load_model
    from baa.data.batch import Sample
    from baa.data.datamodules import CropDataModule
    from baa.model_card import SHIPPED, model_path

    model = load_model(model_path(SHIPPED)).model
    film = phantom_cases(13, seed=5)[-1].image.load(384).pixels
    given = torch.from_numpy(np.stack([film, film[:, ::-1], film[::-1, ::-1], film[::-1]]))[:, None]
    data = CropDataModule({}, model.cropper, input_check=model.input_check, batch_size=4)
    data.trainer = SimpleNamespace(testing=testing, training=False)
    boxes = torch.full((4, 2, 4), torch.nan)
    labels = torch.zeros(4, dtype=torch.long)
    batch = data.on_after_batch_transfer(Sample(given, labels.float(), labels, labels, boxes, boxes[:, 0, :2], boxes), 0)

    expected = given[:1].repeat(4, 1, 1, 1) if testing else given
    assert torch.equal(batch.view.source, given.float() / 255)
    torch.testing.assert_close(batch.view.render(384), expected.float() / 255, atol=1e-3, rtol=0)
    if testing:
        x0, y0, x1, y1 = batch.regions.boxes[0].T
        moved = [(x0, y0, x1, y1), (1 - x1, y0, 1 - x0, y1), (1 - x1, 1 - y1, 1 - x0, 1 - y0), (x0, 1 - y1, x1, 1 - y0)]
        for box, found in zip(moved, batch.regions.boxes, strict=True):
            torch.testing.assert_close(found, torch.stack(box, dim=1), atol=1e-4, rtol=0)
        for crop in batch.regions.crops.values():
            torch.testing.assert_close(crop, crop[:1].expand_as(crop), atol=2e-2, rtol=0)
