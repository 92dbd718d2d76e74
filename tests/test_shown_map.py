"""What users are shown is the locator's own heat map, wherever it is drawn and whatever prior moves the boxes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import with_crops

PRIOR = {"prior_center": [0.4, 0.6], "prior_sigma": 0.05}


@pytest.fixture(scope="module")
def trained(finished):
    from baa.checkpoints.load import load_model

    own = load_model(finished[0] / "tiny" / "estimator" / "best.ckpt")
    own = own._replace(model=own.model.eval().requires_grad_(False))
    return with_crops(own, cam_mode="absolute", prior_floor=100.0, box_method="moments", carpal=PRIOR, hand=PRIOR)


@pytest.fixture
def prediction(trained, film):
    from baa.api import Model

    return Model(trained, Path("tiny"), device="cpu").predict(film, sex="female")


@pytest.fixture
def film():
    from baa.data.sources.phantom import phantom_cases

    return phantom_cases(1, seed=5)[0].image.load(96).pixels


def own_map(trained, prediction):
    from baa.nets.view import View

    cropper = trained.model.cropper
    view = View.of(torch.from_numpy(prediction.film)[None, None].float() / 255)
    return cropper.heat_map(view.render(cropper.locator.px))[0].numpy()


def test_a_prediction_and_its_overlay_have_the_locators_map(trained, prediction):
    own = own_map(trained, prediction)
    np.testing.assert_allclose(prediction.heat_maps["carpal"], own, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(prediction.drawing().heat[0], prediction.heat_maps["carpal"])


def test_the_page_draws_the_same_map_and_the_prior_dashed(prediction):
    pytest.importorskip("gradio", reason="the page needs it: pip install -e '.[app]'")
    from baa.plots.overlay import PANEL_PX, heat_layer
    from baa.web.pictures import _source, figure

    drawn = figure("a.png", prediction)
    assert _source(heat_layer(np.stack(list(prediction.heat_maps.values())), PANEL_PX)) in drawn
    assert drawn.count("stroke-dasharray") == 2


def test_an_exported_graph_returns_the_same_map(trained, prediction):
    from baa.inference.export import ExportedModel, Outputs

    source = torch.from_numpy(prediction.film)[None, None].float() / 255
    outputs = Outputs(*ExportedModel(trained, 0.9)(source, torch.tensor([0])))
    np.testing.assert_allclose(outputs.heat[0, 0].numpy(), own_map(trained, prediction), rtol=1e-3, atol=1e-5)


def test_the_caption_says_how_much_the_prior_decided(trained, prediction):
    from baa.api import Model

    (line,) = [line for line in prediction.caption() if "prior" in line]
    assert (
        line
        == "the spatial prior (dashed: expected place) decided 100% of the carpal box's place and 100% of the hand box's place"
    )
    assert set(prediction.prior_shares) == {"carpal", "hand"}
    without = with_crops(trained, carpal={"prior_sigma": 0.0}, hand={"prior_sigma": 0.0})
    free = Model(without, Path("tiny"), device="cpu").predict(prediction.film, sex="female")
    assert not free.prior_shares
    assert free.prior_boxes is None
    assert not any("prior" in line for line in free.caption())
