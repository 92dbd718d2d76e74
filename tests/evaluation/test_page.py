"""The report page shows the metrics, embeds its pictures, loads nothing from a network, and escapes what it is given."""

import re

import numpy as np
from PIL import Image

from baa.evaluation.page import PUBLISHED, Report, page
from baa.plots.figures import agreement_figure, coverage_figure, error_figure

METRICS = {
    "test/cases": 120,
    "test/mae": 7.123,
    "test/mae_ci": [6.5, 7.75],
    "test/rmse": 9.9,
    "test/bias": -0.4,
    "test/within_6": 0.55,
    "test/within_12": 0.85,
    "test/female/cases": 50,
    "test/female/mae": 6.61,
    "test/female/mae_ci": [6.0, 7.2],
    "test/female/bias": 0.3,
    "test/covered_90": 0.912,
    "test/interval_90_months": 31.4,
    "fusion/exchange": 0.25,
    "test/carpal_coverage": 0.953,
}


def make_page(**more):
    figures = [
        agreement_figure(np.array([100.0, 120, 90]), np.array([101.0, 118, 95])),
        error_figure({"all": (7.1, 6.5, 7.7)}),
        coverage_figure([0.5, 0.9], {"all": [0.48, 0.91]}),
    ]
    worst = [("<script>7</script>: true 100, read 150", Image.new("RGB", (64, 32)))]
    card = {"what": "Bone age.", "limits": ("Not a device.", "Nothing else.")}
    return page(Report("estimator", "test", METRICS, figures, worst, card)._replace(**more))


def test_the_page_shows_the_metrics():
    text = make_page()
    for value in ("MAE 7.12 months", "6.50 to 7.75", "120 radiographs", "female", "6.61", "0.912", "31.4", "0.953", "0.25"):
        assert value in text
    for who, _, _ in PUBLISHED:
        assert who in text
    assert "Not a device. Nothing else." in text


def test_pictures_are_embedded_and_nothing_is_loaded():
    text = make_page()
    assert len(re.findall('src="data:image/(png|jpeg);base64,', text)) == 4
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "http" not in text


def test_titles_and_captions_are_escaped():
    assert "<script>" not in make_page(title="<script>1</script>", card={"a": "<script>2</script>"})


def test_without_known_ages_the_page_states_that_nothing_is_measured():
    text = make_page(metrics={}, figures=[], worst=[])
    assert "there are no errors to report" in text
    assert "published" not in text
