"""No damaged or malicious file stops a prediction, delays it, or fills the memory."""

import logging
import resource
import subprocess
import sys
import time

import pandas as pd
import pytest
from fuzzed import fuzzed, header_fuzzed, peak_bytes
from mutated import originals, write_mutated

from baa.data.read.file import ImageFile
from baa.data.read.process import _pool, close_decoders, decode_apart
from baa.data.sources.phantom import phantom_cases
from baa.errors import InputError

SECONDS, GIB = 5.0, 1 << 30


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return write_mutated(tmp_path_factory.mktemp("damaged"))


def test_each_is_read_or_refused_with_a_reason_in_time(damaged):
    files = sorted(damaged.iterdir())
    assert len(files) >= 300
    refused = {}
    for file in files:
        start = time.process_time()
        try:
            assert ImageFile(file).load(96).pixels.shape == (96, 96)
        except InputError as error:
            refused[file.name] = str(error)
        assert time.process_time() - start < SECONDS, file.name
    assert all(len(reason) > 5 and "\n" not in reason for reason in refused.values())
    must = {
        "empty.png",
        "text.png",
        "random.dcm",
        "dot.png",
        "enormous.png",
        "bomb.png",
        "cmyk.jpg",
        "animated.png",
        "frames.dcm",
    }
    assert must <= refused.keys()
    assert len(refused) > len(files) / 2


def test_the_originals_are_read(tmp_path):
    [case] = phantom_cases(1, seed=3)
    first = None
    for name, data in originals(case.image.load(384).pixels).items():
        (tmp_path / name).write_bytes(data)
        read = ImageFile(tmp_path / name).load(384).pixels.astype(int)
        first = read if first is None else first
        assert abs(read - first).mean() < 6, name  # JPEG
        assert read.std() > 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", [fuzzed, header_fuzzed])
def test_no_film_of_two_thousand_ends_the_decoder_or_stalls_it(kind):
    [case] = phantom_cases(1, seed=3)
    pixels = case.image.load(240).pixels[:, 20:-20]
    reasons, slowest = [], (0.0, "")
    close_decoders()
    decode_apart(originals(pixels)["gray.png"], 96)  # starts another
    for name, data in kind(pixels, 2000):
        start = time.monotonic()
        try:
            assert decode_apart(data, 96).pixels.shape == (96, 96)
        except InputError as error:
            reasons.append(str(error))
        slowest = max(slowest, (time.monotonic() - start, name))
    memory = max(peak_bytes(decoder.process.pid) for decoder in _pool.idle)
    figures = "%s: %d refused, slowest %.1f s (%s), %d MiB at most"
    logging.getLogger(__name__).info(figures, kind.__name__, len(reasons), *slowest, memory >> 20)
    assert 100 < len(reasons) < 1950
    assert not [reason for reason in reasons if "\n" in reason or "could not be decoded" in reason]
    assert slowest < (SECONDS, "")
    assert memory < 2 * GIB


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    folder = tmp_path_factory.mktemp("endless")
    [case] = phantom_cases(1, seed=3)
    for kind in (fuzzed, header_fuzzed):
        for name, data in kind(case.image.load(240).pixels[:, 20:-20], 2000, seed=1):
            (folder / f"{kind.__name__}_{name}").write_bytes(data)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("films", ["damaged", "endless"])
def test_a_prediction_covers_all_of_them_within_two_gigabytes(films, request, finished, tmp_path):
    """The model is small: it costs nothing beside the reading."""
    folder, model = request.getfixturevalue(films), finished[0] / "tiny" / "estimator" / "best.ckpt"
    command = [sys.executable, "-m", "baa.predict", folder, "--checkpoint", model, "--sex", "male", "--workers", "2"]
    command += ["--no-overlays", "--out", tmp_path / "out"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    read = pd.read_csv(tmp_path / "out" / "predictions.csv")
    left_out = tmp_path / "out" / "left_out.csv"
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len(read) + (len(pd.read_csv(left_out)) if left_out.exists() else 0) == len(list(folder.iterdir()))
    assert (read.error.notna() ^ read.bone_age_months.notna()).all()
    logging.getLogger(__name__).info("%d files, %d refused", len(read), read.error.notna().sum())
    assert not read.error.str.contains("could not be decoded", na=False).any()
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < 2 * GIB
