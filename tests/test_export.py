"""The exported graph returns what the checkpoint returns, at any batch size; models that cannot be exported are refused."""

import functools
import json
import runpy

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import with_crops

from baa.errors import InputError

PIXEL_TOLERANCE = 0
"""Gray levels."""

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
    "cam_smoothing": 0.05,
    "box_method": "moments",
    "carpal": {"lowest_mode": True, "flip_average": True},
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


@pytest.mark.parametrize("kind", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
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
    file = exported("onnx")
    described = json.loads(file.with_suffix(".json").read_text())
    assert "[batch, 1, 96, 96]" in described["inputs"]["source"]
    assert "2 unknown" in described["inputs"]["sex"]
    assert "not a medical device" in described["limits"][0]
    assert "without a warning" in described["limits"][1]
    assert sorted(file.name for file in file.parent.iterdir()) == ["model.json", "model.onnx", "preprocess.py"]
    assert "BILINEAR" in described["inputs"]["filter"]
    assert "preprocess.py" in described["inputs"]["source"]


def run_graph(file, source, sex):
    """The outputs of an exported file as arrays."""
    if file.suffix == ".pt2":
        return [x.numpy() for x in torch.export.load(file).module()(torch.from_numpy(source), torch.from_numpy(sex))]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {"source": source, "sex": sex})


def films(folder):
    """Files of phantoms with noise up to the edge: 8 and 16 bits, gray and color, upright and wide, large and small."""
    from baa.data.sources.phantom import phantom_cases

    noise = np.random.default_rng(0)
    for i, (case, px) in enumerate(zip(phantom_cases(6, seed=7), (400, 230, 97, 96, 700, 151), strict=True)):
        film = case.image.load(px).pixels.astype(float) * 0.8 + 20 + noise.uniform(-15, 15, (px, px))
        film = film[: px * 3 // 4] if i % 3 == 1 else film[:, : px * 4 // 5]
        levels = (film * 200).astype(np.uint16) if i % 2 else film.astype(np.uint8)
        image = Image.fromarray(levels)
        image = image.convert("RGBA") if i == 4 else image
        image.save(folder / f"{i}.png")
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The functions of `preprocess.py` for squares of 192 pixels."""
    from baa.inference.export import preprocess_script

    file = tmp_path_factory.mktemp("script") / "preprocess.py"
    file.write_text(preprocess_script(192))
    return runpy.run_path(str(file))


def test_the_script_makes_the_pixels_that_the_package_makes(script, tmp_path):
    from baa.data.read.file import ImageFile

    for file in films(tmp_path):
        source = script["preprocess"](script["read_levels"](str(file)))
        assert (source.shape, source.dtype) == ((1, 1, 192, 192), np.float32)
        assert abs(source[0, 0] * 255 - ImageFile(file).load(192).pixels).max() <= PIXEL_TOLERANCE


@pytest.mark.parametrize("kind", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
def test_the_graph_reads_the_scripts_pixels_as_the_packages(exported, tmp_path, kind):
    from baa.data.read.file import ImageFile

    script = runpy.run_path(str(exported(kind).with_name("preprocess.py")))
    files = films(tmp_path)
    ours = np.stack([ImageFile(file).load(96).pixels for file in files])[:, None].astype(np.float32) / 255
    theirs = np.concatenate([script["preprocess"](script["read_levels"](str(file))) for file in files])
    sex = np.arange(len(files)) % 3
    months, expected = (run_graph(exported(kind), source, sex)[0] for source in (theirs, ours))
    assert np.isfinite(months).all()
    np.testing.assert_allclose(months, expected, atol=0.1)


@pytest.mark.parametrize("deep", [1, 200], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize(("level", "noise"), [(4, 3), (245, 4), (128, 6)])
def test_the_script_cuts_a_noisy_margin_where_the_package_does(script, level, noise, deep):
    from baa.data.read.square import content

    rng = np.random.default_rng(0)
    film = phantoms(1, 300)[0][0, 0].numpy() * 200 + rng.normal(0, 1, (300, 300))
    framed = level + rng.normal(0, noise, (460, 420))
    framed[90:390, 60:360] = film
    levels = (framed.clip(0, 255) * deep).astype(np.uint8 if deep == 1 else np.uint16)
    found = script["find_film"](levels.astype(np.float32))
    assert found == content(levels)
    assert found[0] >= 60
    assert found[3] <= 390


def test_a_stress_test_reads_the_graph(exported, finished, tmp_path, monkeypatch):
    import sys

    import pandas as pd

    from baa.assembly.data import load_splits
    from baa.config.load import load
    from baa.data.transformations import TRANSFORMATIONS
    from baa.inference.graph import ExportedGraph
    from baa.stress import main

    few = {name: TRANSFORMATIONS[name] for name in ("rotated by 20 degrees", "inverted")}
    for module in ("baa.data.transformations", "baa.inference.stress"):
        monkeypatch.setattr(f"{module}.TRANSFORMATIONS", few)
    settings = [f"data.cache={finished[0]}/cache", "trainer.progress=false", "data.workers=0"]
    arguments = ["--checkpoint", str(exported("onnx")), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["baa.stress", *arguments, *settings])
    main()
    table = pd.read_csv(tmp_path / "out" / "stress.csv")
    assert table.transformation.tolist() == ["none", *few]
    assert table.mean_absolute_change[1] > 0
    assert "not_recognized" not in table

    graph = ExportedGraph(exported("onnx"))
    test = load_splits(load([], settings, base=graph.settings).data, tmp_path)["test"]
    pixels = np.stack([test.pixels(i) for i in range(len(test.cases))])[:, None]
    months = graph.months(torch.from_numpy(pixels).float() / 255, torch.tensor([int(case.sex) for case in test.cases]))
    true = np.array([case.months for case in test.cases])
    assert table.mae[0] == pytest.approx(np.abs(months.numpy() - true).mean(), abs=0.01)

    monkeypatch.setattr(sys, "argv", ["baa.stress", *arguments, "--split", "unseen", *settings])
    with pytest.raises(InputError, match="--split: an exported graph does not record its training cases"):
        main()
    monkeypatch.setattr(sys, "argv", ["baa.stress", "--checkpoint", str(tmp_path / "none.onnx"), "--out", str(tmp_path)])
    with pytest.raises(InputError, match=r"none\.onnx does not exist; baa.export writes none.onnx and none.json"):
        main()
    for name in ("text.onnx", "text.json"):
        (tmp_path / name).write_text('{"settings": {"data": {}}}')
    with pytest.raises(InputError, match=r"text\.onnx is no ONNX file"):
        ExportedGraph(tmp_path / "text.onnx")


def test_its_filter_averages_what_a_pixel_covers(script):
    """Stripes one pixel wide become gray; interpolation without averaging would keep some of them black or white."""
    stripes = np.zeros((1920, 1920), np.float32)
    stripes[:, 1::2] = 200
    stripes[:960] += 1000
    source = script["preprocess"](stripes)[0, 0]
    assert source.max() == 1
    assert np.ptp(source[:90]) == 0
    assert np.ptp(source[-90:]) == 0


def test_it_cuts_a_uniform_margin(script, tmp_path):
    levels = script["read_levels"](str(films(tmp_path)[0]))
    for value in (0.0, 255.0):
        framed = np.pad(levels, ((60, 20), (0, 90)), constant_values=value)
        height, width = levels.shape
        assert script["find_film"](framed) == (0, 60, width, 60 + height)
        inside, alone = (script["preprocess"](film)[0, 0] * 255 for film in (framed, levels))
        edge = (192 - round(192 * width / height)) // 2 + 4  # the filter mixes the outermost pixels with the margin
        assert abs(inside - alone)[4:-4, edge:-edge].max() <= 4
    assert script["find_film"](np.zeros((9, 7))) == (0, 0, 7, 9)


@pytest.mark.parametrize("kind", ["onnx", pytest.param("pt2", marks=pytest.mark.slow)])
def test_values_out_of_range_and_sexes_that_are_no_code_have_no_age(exported, kind):
    source, sex = (x.numpy() for x in phantoms(9))
    source, sex = np.array(source), np.array(sex)
    source[1] *= 255
    source[2] -= 0.5
    source[3, 0, 5, 5] = np.nan
    source[4] /= 255
    source[5, 0, 0, 0] = np.inf
    sex[6:8] = -1, 3
    whole = run_graph(exported(kind), *(x.numpy() for x in phantoms(9)))
    for part, expected in zip(run_graph(exported(kind), source, sex)[:3], whole, strict=False):
        assert np.isnan(part[1:8]).all()
        np.testing.assert_allclose(part[[0, 8]], expected[[0, 8]], atol=1e-3)


def test_another_script_of_that_name_is_not_replaced(estimator, tmp_path):
    from baa.inference.export import export

    (tmp_path / "preprocess.py").write_text("own = 1")
    with pytest.raises(InputError, match=r"preprocess.py was not written by baa.export; choose another folder"):
        export(estimator("pt2"), tmp_path / "model.pt2", 0.9)
    assert [file.name for file in tmp_path.iterdir()] == ["preprocess.py"]


def test_a_locator_alone_and_an_unknown_suffix_are_refused(finished, estimator, tmp_path):
    from baa.checkpoints.load import load_model
    from baa.inference.export import export

    with pytest.raises(InputError, match="only an estimator that reads crops"):
        export(load_model(finished[0] / "tiny" / "locator" / "best.ckpt"), tmp_path / "model.onnx", 0.9)
    with pytest.raises(InputError, match="has no known suffix; end it in .onnx or .pt2"):
        export(estimator("pt2"), tmp_path / "model.bin", 0.9)
    assert not list(tmp_path.iterdir())
