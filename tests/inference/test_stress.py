"""The stress test measures what a change of the image does to the ages, and each change is the one that its name states."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from baa.data.sources.phantom import phantom_cases
from baa.data.transformations import TRANSFORMATIONS, transformed
from baa.inference.stress import stress_table


@pytest.fixture(scope="module")
def film():
    [case] = phantom_cases(1, seed=3)
    return np.asarray(case.image.load(96).pixels)


def plain(film, name):
    """The transformation alone, without reading its result again: [S, S] in [0, 1]."""
    return TRANSFORMATIONS[name](torch.from_numpy(film.copy())[None, None].float() / 255)[0, 0].numpy() * 255


def test_every_transformation_returns_another_radiograph_of_the_same_side(film):
    unchanged = {"brightness -0.2", "scaled to 80 %", "inverted", "collimated, gray frame", "collimated, black frame"}
    assert len(TRANSFORMATIONS) >= 30
    for name in TRANSFORMATIONS:
        read = transformed(film, name)
        assert (read.shape, read.dtype) == (film.shape, np.uint8), name
        assert np.abs(read.astype(int) - film).mean() > 0.1 or name in unchanged, name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rotated by 90 degrees", np.rot90),
        ("rotated by 180 degrees", lambda film: film[::-1, ::-1]),
        ("rotated by 270 degrees", lambda film: np.rot90(film, 3)),
        ("mirrored left to right", lambda film: film[:, ::-1]),
        ("mirrored top to bottom", lambda film: film[::-1]),
        ("inverted", lambda film: 255 - film),
        ("brightness +0.2", lambda film: np.minimum(film + 51.0, 255)),
        ("gamma 2", lambda film: (film / 255.0) ** 2 * 255),
    ],
)
def test_a_transformation_is_the_one_that_numpy_computes(film, name, expected):
    np.testing.assert_allclose(plain(film, name), expected(film), atol=0.1)


def test_a_shift_moves_to_the_right_and_down_and_a_scale_about_the_center():
    spot = np.zeros((100, 100), np.uint8)
    spot[40:43, 30:33] = 255
    for name, place in (("shifted right by 10 %", (41, 41)), ("shifted down by 10 %", (51, 31)), ("scaled to 120 %", (39, 27))):
        rows, columns = np.nonzero(plain(spot, name) > 100)
        assert (rows.mean(), columns.mean()) == pytest.approx(place, abs=1.0), name


def test_a_stronger_change_takes_more_of_the_detail(film):
    def detail(name):
        return np.abs(np.diff(plain(film, name), axis=1)).mean()

    own = np.abs(np.diff(film.astype(float), axis=1)).mean()
    for weak, strong in (
        ("blurred, 0.3 % of the side", "blurred, 0.8 % of the side"),
        ("half the resolution", "a quarter of the resolution"),
    ):
        assert own >= detail(weak) > detail(strong)
    assert own < detail("noise, deviation 0.05") < detail("noise, deviation 0.1")


def test_a_transformed_negative_is_read_as_its_positive(film):
    assert np.abs(transformed(film, "inverted").astype(int) - film).mean() < 3


def test_the_table_has_the_error_and_the_change_of_each_transformation():
    true = np.array([100.0, 120.0, 60.0, np.nan])
    months = np.array([[101.0, 118.0, 60.0, 50.0], [114.0, 118.0, 60.0, 62.5], [101.0, 118.0, 60.0, 50.0]], np.float32)
    scores = np.array([[-1.0] * 4, [1.0, -1, -1, -1], [-1.0] * 4])
    none, older, same = stress_table(["none", "older", "same"], true, months, scores).to_dict("records")
    assert none["mae"] == pytest.approx(1.0)
    assert older["mae"] == pytest.approx(16 / 3, abs=1e-4)
    assert older["mae_low"] < older["mae"] < older["mae_high"]
    assert (older["mean_change"], older["changed_over_12"]) == (pytest.approx(25.5 / 4), 0.5)
    assert (older["error_over_12"], older["not_recognized"]) == (pytest.approx(1 / 3, abs=1e-4), 0.25)
    assert (same["mean_change"], same["changed_over_12"], same["p"]) == (0, 0, 1)


def test_without_ages_and_without_an_input_check_changes_alone_are_measured():
    table = stress_table(["none", "x"], np.array([np.nan] * 2), np.ones((2, 2)), np.full((2, 2), np.nan))
    assert list(table) == ["transformation", "cases", "mean_change", "mean_absolute_change", "changed_over_12"]


@pytest.mark.parametrize("kind", ["best.ckpt", "bundle"])
def test_the_command_tests_a_checkpoint_and_a_bundle(finished, kind, tmp_path, monkeypatch, capsys):
    from baa.stress import main

    folder, metrics = finished
    few = {name: TRANSFORMATIONS[name] for name in ("rotated by 20 degrees", "inverted", "mirrored left to right")}
    for module in ("baa.data.transformations", "baa.inference.stress"):
        monkeypatch.setattr(f"{module}.TRANSFORMATIONS", few)
    checkpoint = folder / "tiny" / "estimator" / kind
    settings = [f"data.cache={folder}/cache", "trainer.progress=false", "data.workers=0"]
    monkeypatch.setattr(sys, "argv", ["baa.stress", "--checkpoint", str(checkpoint), "--out", str(tmp_path), *settings])
    main()

    table = pd.read_csv(tmp_path / "stress.csv")
    assert table.transformation.tolist() == ["none", *few]
    # Tiny bundles hold weights in half precision; the checkpoint's own figure is the run's.
    assert table.mae[0] == pytest.approx(metrics["estimator"]["test/mae"], abs=1e-3 if kind == "best.ckpt" else 0.5)
    assert table.mean_absolute_change[0] == 0
    assert table.mean_absolute_change[1] > 0
    assert (table.cases == metrics["estimator"]["test/cases"]).all()
    assert (tmp_path / "stress.png").stat().st_size > 10_000
    assert (tmp_path / "transformed.png").stat().st_size > 10_000
    assert "rotated by 20 degrees" in capsys.readouterr().out
