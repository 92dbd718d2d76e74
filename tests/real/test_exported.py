"""The packaged model as an ONNX graph returns the ages and boxes that torch returns, on phantoms and radiographs."""

import logging
import time

import numpy as np
import pytest
import torch

from baa.model_card import SHIPPED, model_path

COUNT, BATCH, PX = 100, 8, 384


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """onnxruntime and torch: functions of sources [B, 1, 384, 384] and sexes [B]."""
    import onnxruntime

    from baa.checkpoints.load import load_model
    from baa.inference.export import ExportedModel, export

    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(load_model(model_path(SHIPPED)), file, 0.9)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    model = ExportedModel(load_model(model_path(SHIPPED)), 0.9)

    def run(source, sex):
        return session.run(None, {"source": source.numpy(), "sex": sex.numpy()})

    return run, torch.no_grad()(lambda source, sex: [part.numpy() for part in model(source, sex)])


def compare(both, films):
    """Run both on the same films. Return the largest differences in months and in pixels of a box; log the speed of each."""
    source = torch.from_numpy(np.stack(films))[:, None].float() / 255
    sex = torch.arange(len(films)) % 3
    found, speed = [], {}
    for name, run in zip(("onnxruntime", "torch"), both, strict=True):
        run(source[:BATCH], sex[:BATCH])
        start = time.perf_counter()
        parts = [run(source[i : i + BATCH], sex[i : i + BATCH]) for i in range(0, len(films), BATCH)]
        speed[name] = len(films) / (time.perf_counter() - start)
        found.append([np.concatenate(part) for part in zip(*parts, strict=True)])
    (months, lower, upper, boxes, _), (months_t, lower_t, upper_t, boxes_t, _) = found
    edges = max(np.nanmax(abs(lower - lower_t)), np.nanmax(abs(upper - upper_t)))
    apart = {"months": abs(months - months_t).max(), "interval": edges, "pixels": abs(boxes - boxes_t).max() * PX}
    logging.getLogger(__name__).info("%d films: %s, images/s %s", len(films), apart, speed)
    assert len(months) == len(films)
    assert months.std() > 5
    return apart


@pytest.mark.slow
def test_onnxruntime_reads_phantoms_as_torch_does(both):
    from baa.data.sources.phantom import phantom_cases

    apart = compare(both, [case.image.load(PX).pixels for case in phantom_cases(COUNT, seed=9)])
    assert apart["months"] <= 0.05
    assert apart["pixels"] <= 1


@pytest.mark.real
def test_onnxruntime_reads_radiographs_as_torch_does(both, real_data):
    from baa.data.sources.rsna import read_rsna

    cases, _ = read_rsna(real_data / "rsna-384")
    apart = compare(both, [case.image.load(PX).pixels for case in cases[:: len(cases) // COUNT][:COUNT]])
    assert apart["months"] <= 0.05
    assert apart["pixels"] <= 1
