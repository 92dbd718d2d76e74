"""A run on remembered boxes looks at each radiograph once, and trains on the boxes that a live look would find."""

import pytest
import torch
from tiny_run import settings


@pytest.fixture(scope="module")
def run(tmp_path_factory, finished):
    from baa.config.load import load
    from baa.training.run import run

    folder = tmp_path_factory.mktemp("runs")
    more = ["stages=[estimator]", f"locator.checkpoint={locator_of(finished)}", "estimator.fit.epochs=1"]
    return folder, run(load(None, settings(folder, "crops.boxes=remembered", *more)))


def locator_of(finished):
    return finished[0] / "tiny" / "locator" / "best.ckpt"


def test_boxes_are_kept_beside_the_cache_and_judged_live(run):
    folder, metrics = run
    (kept,) = folder.glob("cache/boxes-*.safetensors")

    assert kept.stat().st_size > 0
    assert metrics["estimator"]["test/carpal_marked"] == metrics["estimator"]["test/cases"]


def test_what_is_kept_is_what_the_locator_finds(run, finished):
    from safetensors.torch import load_file

    from baa.assembly.data import read_cohort
    from baa.assembly.modules import crop_arguments
    from baa.checkpoints.load import crop_recipe
    from baa.config.load import load
    from baa.nets.view import Film

    folder, _ = run
    config = load(None, settings(folder, "crops.boxes=remembered"))
    cropper, _ = crop_recipe(locator_of(finished), crop_arguments(config))
    radiographs = read_cohort(config.data, folder)["val"]
    pixels = torch.stack([torch.from_numpy(radiographs.pixels(i).copy()) for i in range(len(radiographs.cases))])
    (kept,) = folder.glob("cache/boxes-*.safetensors")

    live = cropper.locate(Film.plain(pixels[:, None].float() / 255))[0]
    torch.testing.assert_close(load_file(kept)["val"], live, atol=1e-4, rtol=0)


def test_another_run_of_the_same_locator_does_not_look_again(run, finished, monkeypatch):
    from baa.assembly.data import read_cohort
    from baa.assembly.modules import crop_arguments
    from baa.checkpoints.load import crop_recipe
    from baa.config.load import load
    from baa.nets.cropper import RegionCropper
    from baa.training import remembered_boxes

    folder, _ = run
    config = load(None, settings(folder, "crops.boxes=remembered"))
    cropper, recipe = crop_recipe(locator_of(finished), crop_arguments(config))
    monkeypatch.setattr(RegionCropper, "locate", lambda *_: pytest.fail("looked again"))
    remembered = remembered_boxes.remember_boxes(cropper, recipe, read_cohort(config.data, folder), config)

    assert remembered["train"].shape[1:] == (2, 4)
