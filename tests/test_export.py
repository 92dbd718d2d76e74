"""The exported graph returns what the checkpoint returns, at any batch size; models that cannot be exported are refused."""

import functools
import json

import jaxtyping
import numpy as np
import pytest
import torch
from tiny_run import with_crops

from baa.errors import InputError

PRIOR = {
    "box_method": "moments",
    "prior_origin": "heat_map",
    "carpal": {"prior_center": [0, 0.2], "prior_sigma": 0.1},
    "hand": {"prior_center": [0, 0], "prior_sigma": 0.2},
}
ATTENTION = {
    "cam_method": "gradient_x_activation",
    "cam_layers": ["8", "16"],
    "cam_mode": "absolute",
    "cam_flip_average": True,
    "cam_smoothing": 0.05,
    "box_method": "moments",
    "carpal": {"lowest_mode": True},
}
CROPS = {"onnx": PRIOR, "pt2": ATTENTION}


@pytest.fixture(scope="module")
def estimator(finished):
    """Return the tiny estimator with the crop settings of a kind of file."""
    from baa.checkpoints.load import load_model

    def estimator(kind):
        return with_crops(load_model(finished[0] / "tiny" / "estimator" / "best.ckpt"), **CROPS[kind])

    return estimator


@pytest.fixture(scope="module")
def exported(estimator, tmp_path_factory):
    """Export that estimator as a file of a kind, once; return the file."""
    from baa.inference.export import export

    @functools.cache
    def exported(kind):
        file = tmp_path_factory.mktemp(kind) / f"model.{kind}"
        jaxtyping.config.update("jaxtyping_disable", True)  # in a traced graph a size is a symbol, no int
        try:
            export(estimator(kind), file, 0.8)
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)
        return file

    return exported


def phantoms(count, px=96):
    from baa.data.sources.phantom import phantom_cases

    pixels = np.stack([case.image.load(px).pixels for case in phantom_cases(count, seed=7)])
    return torch.from_numpy(pixels)[:, None].float() / 255, torch.arange(count) % 3


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_the_graph_returns_what_the_checkpoint_returns(estimator, exported, kind):
    from baa.nets.view import View

    trained = estimator(kind)  # heat maps by captum
    file = exported(kind)
    source, sex = phantoms(5)
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file))
        months, _, _, boxes, heat = session.run(None, {"source": source.numpy(), "sex": sex.numpy()})
    else:
        months, _, _, boxes, heat = (x.numpy() for x in torch.export.load(file).module()(source, sex))

    with torch.no_grad():
        regions = trained.model.cropper(View.of(source))
        mirrored = {name: crop.flip(-1) for name, crop in regions.crops.items()}
        net = trained.model.estimator
        expected = (net(regions.crops, sex).months + net(mirrored, sex).months) / 2
    np.testing.assert_allclose(months, expected.numpy(), atol=0.01)
    np.testing.assert_allclose(boxes, regions.boxes.numpy(), atol=1 / 96)
    np.testing.assert_allclose(heat, regions.heat.numpy(), rtol=1e-3, atol=1e-4 * float(regions.heat.max()))


def test_its_intervals_are_those_of_predict(estimator):
    from baa.inference.export import ExportedModel, Outputs
    from baa.metrics.conformal import interval_of
    from baa.patient import Sex

    trained = estimator("pt2")._replace(calibration={"all": list(map(float, range(1, 101))), "male/0_to_95_months": [7.0] * 60})
    outputs = Outputs(*ExportedModel(trained, 0.5)(*phantoms(6)))
    for i in range(6):
        expected = interval_of(trained.calibration, Sex(i % 3), float(outputs.months[i]), 0.5)
        found = float(outputs.lower[i]), float(outputs.upper[i])
        assert np.isnan(found).all() if expected is None else found == pytest.approx(expected, abs=1e-3)


def test_a_json_file_describes_inputs_and_limits(exported):
    file = exported("pt2")
    described = json.loads(file.with_suffix(".json").read_text())
    assert "[batch, 1, 96, 96]" in described["inputs"]["source"]
    assert "2 unknown" in described["inputs"]["sex"]
    assert "not a medical device" in described["limits"][0]
    assert "without a warning" in described["limits"][1]
    assert sorted(file.name for file in file.parent.iterdir()) == ["model.json", "model.pt2"]


def test_a_locator_alone_and_an_unknown_suffix_are_refused(finished, estimator, tmp_path):
    from baa.checkpoints.load import load_model
    from baa.inference.export import export

    with pytest.raises(InputError, match="only an estimator that reads crops"):
        export(load_model(finished[0] / "tiny" / "locator" / "best.ckpt"), tmp_path / "model.onnx", 0.9)
    with pytest.raises(InputError, match="has no known suffix; end it in .onnx or .pt2"):
        export(estimator("pt2"), tmp_path / "model.bin", 0.9)
    assert not list(tmp_path.iterdir())
