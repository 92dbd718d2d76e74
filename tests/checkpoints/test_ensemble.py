"""An ensemble averages the ages of its models; regions, heat maps and warnings are those of the first."""

import argparse
import copy
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from baa.checkpoints.ensemble import ensemble_of, pooled
from baa.cli import models_option, take_models
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError
from baa.nets.view import View


@pytest.fixture(scope="module")
def films():
    return [case.image.load(96).pixels for case in phantom_cases(3, seed=8)]


@pytest.fixture(scope="module")
def paths(finished):
    return [finished[0] / "tiny" / stage / "best.ckpt" for stage in ("estimator", "locator")]


@pytest.fixture(scope="module")
def models(paths):
    """Models of one locator and one input check, alone."""
    import baa

    return [baa.load_model(path, device="cpu") for path in paths]


def months(predictions):
    return np.array([prediction.months for prediction in predictions])


@pytest.mark.parametrize("weights", [None, [3, 1]])
def test_ages_are_averaged_by_weight_and_boxes_are_the_first_ones(paths, models, films, weights):
    import baa

    one, other = (model.predict(films, sex="female") for model in models)
    found = baa.load_model(paths, weights=weights, device="cpu").predict(films, sex="female", disagree=True)

    np.testing.assert_allclose(months(found), np.average([months(one), months(other)], axis=0, weights=weights), atol=1e-3)
    assert abs(months(one) - months(other)).min() > 0.1
    assert [prediction.boxes for prediction in found] == [prediction.boxes for prediction in one]
    assert np.array_equal(found[0].heat_maps["hand"], one[0].heat_maps["hand"])
    assert all(prediction.disagreement_months >= 0 for prediction in found)
    assert all(prediction.model.startswith("ensemble of 2: tiny") for prediction in found)


def test_disagreement_is_the_range_of_the_averaged_ages(paths, models, films):
    import baa

    same = baa.load_model([paths[0], paths[0]], device="cpu").predict(films, sex="male", disagree=True)
    alone = models[0].predict(films, sex="male", disagree=True)
    for one, other in zip(same, alone, strict=True):
        assert one.disagreement_months == pytest.approx(other.disagreement_months, abs=1e-3)


def test_intervals_come_from_the_validation_errors_of_all_models(models):
    assert pooled([{"all": [1.0, 4.0], "male": [2.0]}, {"all": [0.5, 9.0]}]) == {"all": [0.5, 1.0, 4.0, 9.0], "male": [2.0]}
    one, other = (model.trained for model in models)
    together = ensemble_of([one, other])
    assert together.calibration["all"] == sorted(one.calibration["all"] + other.calibration["all"])
    assert together.provenance.trained == one.provenance.trained | other.provenance.trained


def test_an_ensemble_of_folds_covers_at_least_as_often_as_requested():
    """Models whose errors are independent: the mean is better than each, and pooled errors are those of single models."""
    from baa.metrics.conformal import interval_of
    from baa.patient import Sex

    rng = np.random.default_rng(0)
    tables = [{"all": sorted(np.abs(rng.normal(0, 8, 200)).tolist())} for _ in range(5)]
    means = 100 + rng.normal(0, 8, (2000, 5)).mean(axis=1)
    inside = [low <= 100 <= high for low, high in (interval_of(pooled(tables), Sex.MALE, age, 0.9) for age in means)]
    assert np.mean(inside) > 0.9


def test_what_cannot_be_averaged_is_refused(models):
    one, other = (model.trained for model in models)
    assert ensemble_of([one]) is one
    with pytest.raises(InputError, match=r"weights: \[1.0\] for 2 models; give a positive number for each"):
        ensemble_of([one, other], [1.0])
    with pytest.raises(InputError, match=r"weights: \[1.0, 0.0\] for 2 models"):
        ensemble_of([one, other], [1.0, 0.0])
    larger = other._replace(settings=other.settings | {"data": other.settings["data"] | {"source_px": 128}})
    with pytest.raises(InputError, match=r"read squares of 96 and 128 pixels \(data.source_px\); give models of one side"):
        ensemble_of([one, larger])
    with pytest.raises(InputError, match="no model is given"):
        ensemble_of([])


def test_the_command_evaluates_an_ensemble(finished, paths, tmp_path, monkeypatch):
    from baa.evaluate import main

    folder = finished[0]
    settings = [f"data.cache={folder}/cache", "trainer.progress=false", "data.workers=0"]
    arguments = ["--out", str(tmp_path), "--weights", "1,3", "--checkpoint", *map(str, paths), *settings]
    monkeypatch.setattr(sys, "argv", ["baa.evaluate", *arguments])
    main()
    found, *members = (
        pd.read_csv(place / "predictions.csv").set_index("id") for place in (tmp_path, *(path.parent for path in paths))
    )
    mean = np.average([member.predicted_months for member in members], axis=0, weights=[1, 3])
    np.testing.assert_allclose(found.predicted_months, mean, atol=0.02)
    np.testing.assert_allclose(found.hand_x0, members[0].hand_x0, atol=0.2)
    assert (tmp_path / "report.html").is_file()

    monkeypatch.setattr(sys, "argv", ["baa.evaluate", *arguments, "crops.box_method=moments"])
    with pytest.raises(InputError, match="crops.box_method=moments: a trained network has a fixed value"):
        main()
    monkeypatch.setattr(sys, "argv", ["baa.evaluate", *arguments, "--compare-readings"])
    with pytest.raises(InputError, match="--compare-readings: regions are those of one model; give one --checkpoint"):
        main()


@pytest.fixture(scope="module")
def two(models):
    """The tiny model, and one with other weights."""
    one = models[0].trained
    other = one._replace(model=copy.deepcopy(one.model))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in other.model.estimator.parameters():
            parameter.data += 0.1 * parameter.abs().mean() * torch.randn_like(parameter)
    return one, other


@pytest.fixture(scope="module")
def batch(films):
    """Radiographs, sexes."""
    return torch.from_numpy(np.stack(films))[:, None].float() / 255, torch.tensor([0, 1, 2])


@pytest.fixture(scope="module")
def expected(two, batch):
    """Their ages, averaged with weights of 3 and 1."""
    source, sex = batch
    with torch.no_grad():
        first, second = (trained.model(View.of(source), sex).months for trained in two)
    assert (first - second).abs().min() > 0.1
    return (3 * first + second) / 4


def test_the_module_that_is_exported_averages_an_ensemble(two, batch, expected):
    from baa.inference.export import ExportedModel, Outputs

    months = Outputs(*ExportedModel(ensemble_of(two, [3.0, 1.0]), 0.9)(*batch)).months
    np.testing.assert_allclose(months, expected, atol=0.01)


@pytest.mark.slow
def test_an_ensemble_is_exported_as_one_graph(two, batch, expected, tmp_path, monkeypatch):
    import jaxtyping

    from baa.inference.export import export
    from baa.inference.graph import ExportedGraph

    monkeypatch.setitem(jaxtyping.config.__dict__, "jaxtyping_disable", True)  # in a traced graph a size is a symbol, no int
    export(ensemble_of(two, [3.0, 1.0]), tmp_path / "model.onnx", 0.9)
    np.testing.assert_allclose(ExportedGraph(tmp_path / "model.onnx").months(*batch), expected, atol=0.02)


@pytest.mark.parametrize(
    ("words", "models_of", "rest"),
    [
        (["hand.png"], ["pretrained"], ["hand.png"]),
        (["--checkpoint", "a.ckpt", "hand.png"], ["a.ckpt"], ["hand.png"]),
        (["--checkpoint", "folder", "hand.png", "b.png"], ["folder"], ["hand.png", "b.png"]),
        (["--checkpoint", "a.ckpt", "b.ckpt", "pretrained", "hand.png"], ["a.ckpt", "b.ckpt", "pretrained"], ["hand.png"]),
        (["hand.png", "--checkpoint", "a.ckpt", "b.ckpt"], ["a.ckpt", "b.ckpt"], ["hand.png"]),
    ],
)
def test_files_may_follow_the_checkpoints(words, models_of, rest):
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", nargs="*")
    models_option(parser)
    arguments = parser.parse_args(words)
    take_models(arguments, "inputs")
    assert (arguments.checkpoint, arguments.inputs) == (models_of, rest)


def test_weights_are_numbers_with_commas(capsys):
    parser = argparse.ArgumentParser()
    models_option(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--weights", "1;2"])
    assert "1;2 is no list of numbers, such as 2,1,1" in capsys.readouterr().err
    assert parser.parse_args(["--weights", "1,2"]).weights == [1.0, 2.0]
