"""The exported graph answers as the checkpoint does, whatever the number of radiographs; what has no whole path is refused."""

import json

import numpy as np
import pytest
import torch

from baa.errors import InputError


@pytest.fixture(scope="module")
def by_moments(finished, tmp_path_factory):
    """A run whose boxes are found as those of the model that ships."""
    from tiny_run import settings

    from baa.config.load import load
    from baa.training.run import run

    folder = tmp_path_factory.mktemp("moments")
    locator = finished[0] / "tiny" / "locator" / "best.ckpt"
    own = ["stages=[estimator]", f"locator.checkpoint={locator}", "estimator.fit.epochs=1", "crops.rule=moments"]
    place = ["crops.centres_from=look", "crops.centres=[[0,0.2],[0,0]]", "crops.spreads=[0.1,0.2]"]
    run(load(None, settings(folder, *own, *place)))
    return folder / "tiny" / "estimator" / "best.ckpt"


def phantoms(count, px=96):
    from baa.data.sources.phantom.phantom import phantom_cases

    pixels = np.stack([case.image.load(px).pixels for case in phantom_cases(count, seed=7)])
    return torch.from_numpy(pixels)[:, None].float() / 255, torch.arange(count) % 3


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_the_graph_answers_as_the_checkpoint_does(by_moments, tmp_path, kind):
    from baa.assembly.modules import crop_arguments
    from baa.checkpoints.load import restore
    from baa.config.load import load
    from baa.inference.export import export
    from baa.nets.cropper import RegionCropper
    from baa.nets.view import Film

    file = tmp_path / f"model.{kind}"
    export(by_moments, file, 0.8)
    source, sex = phantoms(5)
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file))
        months, _, _, boxes, heat = session.run(None, {"source": source.numpy(), "sex": sex.numpy()})
    else:
        months, _, _, boxes, heat = (x.numpy() for x in torch.export.load(file).module()(source, sex))

    model = restore(by_moments)
    cropper = RegionCropper(model.locator, **crop_arguments(load(None, base=model.settings)))  # with captum
    with torch.no_grad():
        regions = cropper(Film.plain(source))
        crops = dict(zip(("carpal", "hand"), regions.crops, strict=True))
        mirrored = {name: crop.flip(-1) for name, crop in crops.items()}
        expected = (model.module.net(crops, sex).months + model.module.net(mirrored, sex).months) / 2
    np.testing.assert_allclose(months, expected.numpy(), atol=0.01)
    np.testing.assert_allclose(boxes, regions.boxes.numpy(), atol=1 / 96)
    np.testing.assert_allclose(heat, regions.heat.numpy(), rtol=1e-3, atol=1e-4 * float(regions.heat.max()))


def test_its_intervals_are_those_of_predict(by_moments):
    from baa.checkpoints.load import restore
    from baa.inference.whole_path import Answer, WholePath
    from baa.metrics.conformal import interval_of
    from baa.patient import Sex

    model = restore(by_moments)._replace(
        calibration={"all": list(map(float, range(1, 101))), "male/0_to_95_months": [7.0] * 60}
    )
    answer = Answer(*WholePath(model, 0.5)(*phantoms(6)))
    for i in range(6):
        expected = interval_of(model.calibration, Sex(i % 3), float(answer.months[i]), 0.5)
        found = float(answer.lower[i]), float(answer.upper[i])
        assert np.isnan(found).all() if expected is None else found == pytest.approx(expected, abs=1e-3)


def test_beside_it_stands_what_it_takes_and_what_it_is_not(by_moments, tmp_path):
    from baa.inference.export import export

    export(by_moments, tmp_path / "model.pt2", 0.8)
    told = json.loads((tmp_path / "model.json").read_text())
    assert "[batch, 1, 96, 96]" in told["inputs"]["source"]
    assert "2 unknown" in told["inputs"]["sex"]
    assert "not a medical device" in told["limits"][0]
    assert "warns of nothing" in told["limits"][1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.pt2"]


def test_what_has_no_whole_path_or_no_format_is_refused(finished, by_moments, tmp_path):
    from baa.inference.export import export

    with pytest.raises(InputError, match="only an estimator that reads crops"):
        export(finished[0] / "tiny" / "locator" / "best.ckpt", tmp_path / "model.onnx", 0.9)
    with pytest.raises(InputError, match="says no format"):
        export(by_moments, tmp_path / "model.bin", 0.9)
    assert not list(tmp_path.iterdir())
