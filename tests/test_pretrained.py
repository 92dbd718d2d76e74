"""The model that comes with baa: small, with a complete card; it predicts without a checkpoint argument and offline."""

import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


@pytest.fixture
def hand(tmp_path):
    from baa.data.sources.phantom import phantom_cases

    [case] = phantom_cases(1, seed=5)
    Image.fromarray(case.image.load(384).pixels).save(tmp_path / "hand.png")
    return tmp_path / "hand.png"


def test_its_files_are_small_and_its_card_has_licences_limits_and_scores():
    from baa.model_card import SHIPPED, model_path, read_card

    folder = model_path(SHIPPED)
    card = read_card(folder)

    assert sum(file.stat().st_size for file in folder.iterdir()) <= 30e6
    assert any("non-commercial research" in licence for licence in card["licences"])
    assert any("not a medical device" in limit for limit in card["limits"])
    assert card["data"]["test"]["cases"] >= 600
    low, high = card["scores"]["test/mae_ci"]
    assert 0 < low < card["scores"]["test/mae"] < high


def test_it_predicts_without_a_network_connection(hand, tmp_path, monkeypatch, capsys):
    from baa import predict

    def refuse(*_):
        raise OSError("the network is not available")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(
        sys, "argv", ["baa.predict", str(hand), "--sex", "female", "--out", str(tmp_path / "out"), "--workers", "0"]
    )
    predict.main()

    [row] = pd.read_csv(tmp_path / "out" / "predictions.csv").to_dict("records")
    assert 0 < row["bone_age_months"] < 240
    assert row["sex"] == "female"
    assert 0 <= row["carpal_y0"] < row["carpal_y1"] <= 384


def test_a_fit_can_start_from_it_with_its_networks():
    from baa.config.load import load, to_plain
    from baa.model_card import SHIPPED, model_path, networks_of, read_card

    packaged = networks_of(read_card(model_path(SHIPPED)))
    config = to_plain(load([], ["stages=[estimator]", f"weights={SHIPPED}", "estimator.fit.epochs=2"]))

    assert config["estimator"]["fit"]["epochs"] == 2
    assert config["crops"]["carpal"]["px"] == packaged["crops"]["carpal"]["px"]
    assert config["estimator"]["hand"]["name"] == packaged["estimator"]["hand"]["name"] != "resnet50"


@pytest.mark.slow
def test_the_wheel_contains_it_and_stays_under_60_mb(tmp_path):
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True)

    [wheel] = tmp_path.glob("baa-*.whl")
    assert {"baa/pretrained/card.json", "baa/pretrained/weights.safetensors"} <= set(zipfile.ZipFile(wheel).namelist())
    assert wheel.stat().st_size < 60e6
