"""Simulated sites: what local calibration gains on cases that it was not learned from."""

import numpy as np
import pandas as pd
import pytest

from baa.benchmarks.local_sites import SITES, Site, main, simulate
from baa.metrics.local_line import Line


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    true = rng.uniform(20, 210, 500)
    sexes = np.where(rng.random(500) < 0.5, "female", "male")
    return pd.DataFrame({"sex": sexes, "predicted_months": true + rng.normal(0, 8, 500), "true_months": true})


def test_a_shift_by_sex_is_undone_and_more_cases_help(table):
    site = Site("apart", Line(6.0, 1.0), Line(-6.0, 1.0))
    few, many = (simulate(table, site, size, samples=20) for size in (30, 200))
    assert few.before - many.after > 1.0
    assert many.after < few.after < few.before
    assert many.worse == 0


def test_readers_like_the_models_own_cost_next_to_nothing(table):
    gain = simulate(table, SITES[0], 100, samples=20)
    assert abs(gain.after - gain.before) < 0.1


def test_the_command_prints_a_row_per_site(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("baa.benchmarks.local_sites.SAMPLES", 2)
    table.to_csv(tmp_path / "predictions.csv")
    monkeypatch.setattr("sys.argv", ["local_sites", str(tmp_path / "predictions.csv")])
    main()
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(SITES)
    table.head(50).to_csv(tmp_path / "predictions.csv")
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "50 cases have sex and age; 400 are needed" in capsys.readouterr().err
